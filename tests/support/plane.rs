//! A Kubernetes control plane on loopback: etcd, kube-apiserver and, unless refused,
//! kube-controller-manager. There are no nodes and no scheduler: nothing runs pods.

use std::fs;
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::{Mutex, MutexGuard};
use std::time::{Duration, Instant};

use kube::config::{KubeConfigOptions, Kubeconfig};
use tokio::sync::OnceCell;

use super::pki::{Client, Pki};
use super::place::Place;
use super::processes::Signal;
use super::program::{Program, Running};
use super::{Result, block_until, programs, until};

const READY_LIMIT: Duration = Duration::from_secs(120);

/// What a control plane consists of, as files in one directory; nothing of it runs.
#[derive(Clone, Debug)]
pub struct Recipe {
    directory: PathBuf,
    pki: Pki,
    ports: Ports,
}

#[derive(Clone, Copy, Debug)]
struct Ports {
    etcd: u16,
    peer: u16,
    api: u16,
}

impl Recipe {
    /// Takes certificates and ports from the directory, or makes them.
    pub fn open(directory: &Path) -> Result<Recipe> {
        fs::create_dir_all(directory)?;
        let directory = directory.canonicalize()?;
        let pki = Pki::open(&directory.join("pki"))?;
        let file = directory.join("ports");
        let ports = match fs::read_to_string(&file).ok().as_deref().and_then(Ports::parse) {
            Some(ports) => ports,
            None => Ports::free()?,
        };
        fs::write(file, format!("{} {} {}\n", ports.etcd, ports.peer, ports.api))?;
        let recipe = Recipe { directory, pki, ports };
        let admin = recipe.kubeconfig_for("admin", "system:masters")?;
        fs::write(recipe.kubeconfig_path(), admin)?;
        Ok(recipe)
    }

    pub fn kubeconfig_path(&self) -> PathBuf {
        self.directory.join("kubeconfig")
    }

    /// A kubeconfig for this user in this group (empty: none).
    pub fn kubeconfig_for(&self, user: &str, group: &str) -> Result<String> {
        let Client { certificate, key } = self.pki.client(user, group)?;
        let encode = |pem: &str| k8s_openapi::ByteString(pem.as_bytes().to_vec());
        let config = serde_json::json!({
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": "playground",
            "contexts": [{"name": "playground", "context": {"cluster": "playground", "user": user}}],
            "clusters": [{"name": "playground", "cluster": {
                "server": format!("https://127.0.0.1:{}", self.ports.api),
                "certificate-authority-data": encode(&self.pki.authority()?),
            }}],
            "users": [{"name": user, "user": {
                "client-certificate-data": encode(&certificate),
                "client-key-data": encode(&key),
            }}],
        });
        // YAML is a superset of JSON.
        Ok(format!("{config:#}\n"))
    }

    /// Where the API server listens.
    pub fn api_port(&self) -> u16 {
        self.ports.api
    }

    pub fn etcd(&self) -> Result<Program> {
        let Ports { etcd, peer, .. } = self.ports;
        Ok(Program::new(programs::control_plane("etcd")?, self.directory.join("etcd.log"))
            .arg(format!("--data-dir={}", self.directory.join("etcd").display()))
            .arg(format!("--listen-client-urls=http://127.0.0.1:{etcd}"))
            .arg(format!("--advertise-client-urls=http://127.0.0.1:{etcd}"))
            .arg(format!("--listen-peer-urls=http://127.0.0.1:{peer}"))
            .args(["--unsafe-no-fsync", "--log-level=warn"]))
    }

    pub fn apiserver(&self) -> Result<Program> {
        let path = programs::control_plane("kube-apiserver")?;
        let file = |flag: &str, name: &str| format!("--{flag}={}", self.pki.file(name).display());
        Ok(Program::new(path, self.directory.join("kube-apiserver.log"))
            .arg(format!("--etcd-servers=http://127.0.0.1:{}", self.ports.etcd))
            .arg(format!("--secure-port={}", self.ports.api))
            .arg(file("client-ca-file", "ca.crt"))
            .arg(file("tls-cert-file", "serving.crt"))
            .arg(file("tls-private-key-file", "serving.key"))
            .arg(file("service-account-key-file", "accounts.pub"))
            .arg(file("service-account-signing-key-file", "accounts.key"))
            .args([
                "--bind-address=127.0.0.1",
                "--service-account-issuer=https://kubernetes.default.svc",
                "--authorization-mode=RBAC",
                "--service-cluster-ip-range=10.0.0.0/24",
                "--allow-privileged=true",
            ]))
    }

    pub fn controllers(&self) -> Result<Program> {
        let path = programs::control_plane("kube-controller-manager")?;
        let kinds = "garbage-collector-controller,namespace-controller,serviceaccount-controller";
        Ok(Program::new(path, self.directory.join("kube-controller-manager.log"))
            .arg(format!("--kubeconfig={}", self.kubeconfig_path().display()))
            .arg(format!("--controllers={kinds}"))
            .args(["--secure-port=0", "--leader-elect=false"]))
    }

    pub async fn client(&self) -> Result<kube::Client> {
        client_of(Kubeconfig::read_from(self.kubeconfig_path())?).await
    }

    /// Runs kubectl as administrator: its standard output, or a failure with its message.
    pub async fn kubectl(&self, args: &[&str]) -> Result<String> {
        let output = tokio::process::Command::new(programs::control_plane("kubectl")?)
            .arg(format!("--kubeconfig={}", self.kubeconfig_path().display()))
            .args(args)
            .env("KUBECACHEDIR", self.directory.join("kubectl"))
            .env("KUBERC", "off")
            .stdin(Stdio::null())
            .kill_on_drop(true)
            .output()
            .await?;
        if output.status.success() {
            return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
        }
        let message = String::from_utf8_lossy(&output.stderr);
        Err(format!("kubectl {}: {}", args.join(" "), message.trim_end()).into())
    }

    pub fn etcd_answers(&self) -> bool {
        TcpStream::connect((Ipv4Addr::LOCALHOST, self.ports.etcd)).is_ok()
    }

    /// True once the API server says so itself and has its first namespace.
    pub async fn is_ready(&self) -> bool {
        let Ok(client) = self.client().await else { return false };
        let Ok(ready) = kube::api::Request::new("").get("readyz", &Default::default()) else {
            return false;
        };
        let namespaces: kube::Api<k8s_openapi::api::core::v1::Namespace> =
            kube::Api::all(client.clone());
        let answered = tokio::time::timeout(Duration::from_secs(5), async {
            client.request_text(ready).await.is_ok() && namespaces.get("default").await.is_ok()
        });
        answered.await.unwrap_or(false)
    }
}

async fn client_of(kubeconfig: Kubeconfig) -> Result<kube::Client> {
    let options = KubeConfigOptions::default();
    let config = kube::Config::from_custom_kubeconfig(kubeconfig, &options).await?;
    Ok(kube::Client::try_from(config)?)
}

impl Ports {
    fn parse(text: &str) -> Option<Ports> {
        let mut numbers = text.split_whitespace().map(str::parse);
        let mut next = || numbers.next()?.ok();
        Some(Ports { etcd: next()?, peer: next()?, api: next()? })
    }

    fn free() -> Result<Ports> {
        let [etcd, peer, api] = free_ports()?;
        Ok(Ports { etcd, peer, api })
    }
}

/// Ports that are free now; somebody may still be faster, so the caller tries again.
pub fn free_ports<const N: usize>() -> Result<[u16; N]> {
    let mut listeners = Vec::with_capacity(N);
    let mut ports = [0; N];
    for port in &mut ports {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        *port = listener.local_addr()?.port();
        // Held until all are chosen, or the same one could come twice.
        listeners.push(listener);
    }
    Ok(ports)
}

/// A control plane that runs, and stops when it is dropped.
pub struct ControlPlane {
    // In the order in which they stop.
    controllers: Mutex<Option<Running>>,
    apiserver: Mutex<Option<Running>>,
    etcd: Mutex<Option<Running>>,
    recipe: Recipe,
    place: Place,
}

impl ControlPlane {
    pub async fn start() -> Result<ControlPlane> {
        let mut last = None;
        // Another process may take a port between the choice and the start.
        for _ in 0..3 {
            match Self::try_start().await {
                Ok(plane) => return Ok(plane),
                Err(e) => last = Some(e),
            }
        }
        Err(last.unwrap_or_else(|| "not tried".into()))
    }

    /// The control plane that all tests of this process share; take a namespace each.
    pub async fn shared() -> Result<&'static ControlPlane> {
        static SHARED: OnceCell<ControlPlane> = OnceCell::const_new();
        SHARED.get_or_try_init(ControlPlane::start).await
    }

    async fn try_start() -> Result<ControlPlane> {
        let place = Place::new("plane")?;
        let recipe = Recipe::open(place.path())?;
        let mut etcd = recipe.etcd()?.start()?;
        if !block_until(READY_LIMIT, || recipe.etcd_answers() || etcd.has_ended())
            || etcd.has_ended()
        {
            return Err(format!("etcd did not start:\n{}", etcd.program().last_words()).into());
        }
        let apiserver = recipe.apiserver()?.start()?;
        let plane = ControlPlane {
            controllers: Mutex::new(None),
            apiserver: Mutex::new(Some(apiserver)),
            etcd: Mutex::new(Some(etcd)),
            recipe,
            place,
        };
        plane.wait_ready().await?;
        *locked(&plane.controllers) = Some(plane.recipe.controllers()?.start()?);
        Ok(plane)
    }

    async fn wait_ready(&self) -> Result<()> {
        let began = Instant::now();
        let mut ended = false;
        until(READY_LIMIT, "the API server is ready", async || {
            ended = locked(&self.apiserver).as_mut().is_none_or(Running::has_ended);
            ended || self.recipe.is_ready().await
        })
        .await
        .map_err(|e| self.describe(&e.to_string()))?;
        if ended {
            return Err(self.describe(&format!("it ended after {:?}", began.elapsed())));
        }
        Ok(())
    }

    fn describe(&self, what: &str) -> super::Failure {
        let words = locked(&self.apiserver).as_ref().map(|r| r.program().last_words());
        format!("kube-apiserver: {what}\n{}", words.unwrap_or_default()).into()
    }

    pub fn recipe(&self) -> &Recipe {
        &self.recipe
    }

    pub fn kubeconfig_path(&self) -> PathBuf {
        self.recipe.kubeconfig_path()
    }

    /// A client of the administrator. It belongs to the runtime that asks for it.
    pub async fn client(&self) -> Result<kube::Client> {
        self.recipe.client().await
    }

    /// A client of another user, for RBAC as it really is.
    pub async fn client_of(&self, user: &str, group: &str) -> Result<kube::Client> {
        let text = self.recipe.kubeconfig_for(user, group)?;
        client_of(Kubeconfig::from_yaml(&text)?).await
    }

    pub async fn kubectl(&self, args: &[&str]) -> Result<String> {
        self.recipe.kubectl(args).await
    }

    /// Applies the project's CRDs and waits until they are served.
    pub async fn apply_crds(&self) -> Result<()> {
        apply_crds(&self.recipe).await
    }

    /// Makes a namespace whose name begins with `prefix`.
    pub async fn namespace(&self, prefix: &str) -> Result<String> {
        use k8s_openapi::api::core::v1::Namespace;
        let mut namespace = Namespace::default();
        namespace.metadata.generate_name = Some(format!("{prefix}-"));
        let api: kube::Api<Namespace> = kube::Api::all(self.client().await?);
        let made = api.create(&Default::default(), &namespace).await?;
        Ok(made.metadata.name.ok_or("a namespace without a name")?)
    }

    /// SIGKILL, as a crash would do it. The data stays in etcd.
    pub fn kill_apiserver(&self) {
        if let Some(mut running) = locked(&self.apiserver).take() {
            running.kill();
        }
    }

    /// Starts it on the same port, after a kill or a stop.
    pub async fn restart_apiserver(&self) -> Result<()> {
        self.kill_apiserver();
        let started = self.recipe.apiserver()?.start()?;
        *locked(&self.apiserver) = Some(started);
        self.wait_ready().await
    }

    /// SIGSTOP: connections stay open and nothing answers.
    pub fn pause_apiserver(&self) {
        self.signal(Signal::STOP);
    }

    pub fn resume_apiserver(&self) {
        self.signal(Signal::CONT);
    }

    fn signal(&self, signal: Signal) {
        if let Some(running) = locked(&self.apiserver).as_ref() {
            running.signal(signal);
        }
    }
}

/// Applies the project's CRDs and waits until they are served.
pub async fn apply_crds(recipe: &Recipe) -> Result<()> {
    let crds = programs::root().join("crds").display().to_string();
    let apply = ["apply", "--server-side", "--force-conflicts", "-f", crds.as_str()];
    recipe.kubectl(&apply).await?;
    let wait = ["wait", "--for=condition=Established", "--timeout=60s", "-f", crds.as_str()];
    recipe.kubectl(&wait).await.map(drop)
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}
