//! Values of environment variables and standard input: written out, or named.

use kube::KubeSchema;
use serde::{Deserialize, Serialize};

use super::rules;

/// An environment variable of the command.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = rules::env_name(), validation = rules::one_value("an item of spec.env"))]
pub struct EnvVar {
    /// Name of the variable: letters, digits and underscores, not beginning with a digit.
    /// At most 256 characters.
    #[schemars(length(min = 1, max = 256), regex(pattern = rules::ENV_NAME))]
    pub name: String,
    /// The value, as it is: nothing is expanded in it. At most 128 KiB together with the name.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 131_071), regex(pattern = rules::NO_NUL))]
    pub value: Option<String>,
    /// Where the value is read from at each launch, instead of value.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub value_from: Option<ValueSource>,
}

/// What the command reads on its standard input.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = rules::one_value("spec.stdin"))]
pub struct Stdin {
    /// The text, as it is. At most 256 KiB.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 262_144))]
    pub value: Option<String>,
    /// Where the bytes are read from at each launch, instead of value.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub value_from: Option<ValueSource>,
}

/// A key of a Secret or of a ConfigMap.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = rules::one_source())]
pub struct ValueSource {
    /// A key of a Secret in the same namespace. Its content is never written to status, events
    /// or logs by the operator.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub secret_key_ref: Option<KeyRef>,
    /// A key of a ConfigMap in the same namespace.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub config_map_key_ref: Option<KeyRef>,
}

/// An object of the same namespace and one of its keys. There is no `optional`: while it is
/// missing the command stays Pending, with `Accepted=False`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct KeyRef {
    /// Name of the object.
    #[schemars(length(min = 1, max = 253), regex(pattern = rules::OBJECT_NAME))]
    pub name: String,
    /// Name of the key. It must exist: while it does not, the command stays Pending.
    #[schemars(length(min = 1, max = 253), regex(pattern = rules::KEY_NAME))]
    pub key: String,
}
