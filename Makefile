# Remote Command. `make` shows what there is.
.DEFAULT_GOAL := help
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
built := $(or $(CARGO_TARGET_DIR),target)/release

.PHONY: help
help: ## Show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-18s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.PHONY: demo
demo: build ## Run every example against a real control plane and sshd, and compare
	@cargo run --quiet --release --example playground -- demo

.PHONY: up
up: build ## Start a playground and leave it running
	@cargo run --quiet --release --example playground -- up

.PHONY: down
down: ## Stop the playground and remove everything it made
	@if [ -x '$(built)/examples/playground' ]; then '$(built)/examples/playground' down; \
	  elif [ -d target/playground ]; then cargo run --quiet --release --example playground -- down; \
	  else echo "no playground is up"; fi

.PHONY: operator-restart
operator-restart: build ## Kill the playground's operator with SIGKILL and start it again
	@cargo run --quiet --release --example playground -- operator-restart

.PHONY: build
build: tools ## Build the operator and the playground in release mode
	@cargo build --release --bin remote-command --example playground

# Most tests wait most of the time: four at once, on few cores too.
.PHONY: test
test: test-tools format-check lint ## Formatting, lints, generated files and every test
	@RUST_TEST_THREADS=$${RUST_TEST_THREADS:-4} cargo test --no-fail-fast

.PHONY: lint
lint: ## Clippy with the house lints; dependencies against deny.toml
	@cargo clippy --all-targets -- -D warnings
	@playground/programs/deny --log-level error check bans licenses sources

.PHONY: format
format: ## Format the code
	@cargo fmt

.PHONY: format-check
format-check: ## Fail when the code is not formatted
	@cargo fmt --check

.PHONY: generate
generate: ## Write crds/ from the types
	@cargo run --quiet --bin remote-command -- crds --output-dir crds

.PHONY: tools
tools: ## Get what the playground needs: control plane programs, sshd
	@playground/programs/need sshd=openssh-server ssh-keygen=openssh-client ps=procps
	@playground/programs/get >/dev/null

.PHONY: test-tools
test-tools: root tools ## Get what the tests need besides: shells, sudo, ip
	@playground/programs/need fish=fish tcsh=tcsh sudo=sudo ip=iproute2 useradd=passwd \
	  unshare=util-linux mount=mount mkfifo=coreutils python3=python3 openssl=openssl perl=perl-base
	@playground/programs/busybox busybox >/dev/null
	@playground/programs/busybox busybox-static >/dev/null

.PHONY: root
root: ## Fail unless this is root, which the tests need (demo, up and down do not)
	@[ "$$(id -u)" = 0 ] || { echo 'make test needs root: its tests make throw-away users and network namespaces' >&2; exit 1; }

.PHONY: clean
clean: down ## Stop the playground and remove build output
	@cargo clean
