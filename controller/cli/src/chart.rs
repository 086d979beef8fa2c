//! The chart, `deploy/chart`: the one description of what an installation consists of, for Helm and for `ambit install`.
//!
//! profile and values → [`values`] laid over each other → held against the [`schema`] → templates [`run`] → objects.

mod run;
mod schema;
mod template;
mod values;

#[cfg(test)]
mod tests;

use ambit_crds::document;
use serde_json::{Value, json};

use crate::failure::Failure;
use run::Run;
use template::Templates;
pub(crate) use values::lay;

/// The namespace of an installation.
pub(crate) const NAMESPACE: &str = "ambit-system";

/// Every object that `ambit install` made carries these labels.
pub(crate) const LABELS: &str = "app.kubernetes.io/part-of=ambit,app.kubernetes.io/managed-by=ambit";

/// The values as they are documented.
pub(crate) const VALUES: &str = include_str!("../../../deploy/chart/values.yaml");

const SCHEMA: &str = include_str!("../../../deploy/chart/values.schema.json");

const ABOUT: &str = include_str!("../../../deploy/chart/Chart.yaml");

macro_rules! files {
    ($($name:literal)*) => { [$(($name, include_str!(concat!("../../../deploy/chart/", $name)))),*] };
}

/// Every template. The order in which an installation is applied.
const TEMPLATES: [(&str, &str); 9] = files! {
    "templates/_names.tpl"
    "templates/namespace.yaml"
    "templates/mesh.yaml"
    "templates/controller-rights.yaml"
    "templates/network.yaml"
    "templates/identity.yaml"
    "templates/controller.yaml"
    "templates/node.yaml"
    "templates/ztunnel.yaml"
};

/// Applied last: a webhook without a server only costs time.
const LAST: (&str, &str) = files! { "templates/webhook.yaml" }[0];

const PROFILES: [(&str, &str); 3] = files! {
    "profiles/default.yaml"
    "profiles/demo.yaml"
    "profiles/minimal.yaml"
};

/// A set of values to begin with.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Profile {
    /// For production: two controllers, the webhook, network policies.
    #[default]
    Default,
    /// To try things on a small cluster: one controller, little asked for, every request in the log.
    Demo,
    /// What the mesh cannot do without, and nothing besides.
    Minimal,
}

/// What an installation is asked to be.
#[derive(Debug, Default)]
pub(crate) struct Wanted {
    /// What to begin with.
    pub(crate) profile: Profile,
    /// Values of files, later ones over earlier ones.
    pub(crate) files: Vec<Value>,
    /// What `--set` says.
    pub(crate) sets: Vec<String>,
}

impl Profile {
    fn file(self) -> &'static str {
        match self {
            Self::Default => PROFILES[0].1,
            Self::Demo => PROFILES[1].1,
            Self::Minimal => PROFILES[2].1,
        }
    }
}

impl Wanted {
    /// The values, or everything that is wrong with them.
    pub(crate) fn values(&self) -> Result<Value, Failure> {
        let mut values = yaml(VALUES)?;
        lay(yaml(self.profile.file())?, &mut values);
        // Nothing else makes the namespace here.
        lay(json!({ "namespace": { "create": true } }), &mut values);
        for file in &self.files {
            lay(file.clone(), &mut values);
        }
        for set in &self.sets {
            values::set(set, &mut values).map_err(|says| {
                Failure::new(format!("--set {set}: {says}"), "write --set NAME.NAME=VALUE, as Helm has it")
            })?;
        }
        let wrong = schema::check(&values, &yaml(SCHEMA)?);
        match wrong.is_empty() {
            true => Ok(values),
            false => Err(Failure::new(
                format!("values that cannot be taken: {}", wrong.join("; ")),
                "see what there is and what it means: ambit install --show-values",
            )),
        }
    }
}

/// The objects that values make, in the order in which they are applied.
pub(crate) fn render(values: &Value) -> Result<Vec<Value>, Failure> {
    let broken = |file: &str, says: &dyn std::fmt::Display| {
        Failure::new(
            format!("chart, {file}: {says}"),
            "set the values that it names: ambit install --show-values",
        )
    };
    let mut templates = Templates::default();
    let mut bodies = Vec::new();
    for (file, text) in TEMPLATES.into_iter().chain([LAST]) {
        bodies.push((file, templates.read(text).map_err(|error| broken(file, &error))?));
    }
    let root = json!({
        "Values": values,
        "Chart": yaml(ABOUT)?,
        "Release": { "Name": "ambit", "Namespace": NAMESPACE, "Service": "ambit" },
    });
    let run = Run { templates: &templates };
    let mut objects = Vec::new();
    for (file, body) in &bodies {
        let text = run.text(body, &root).map_err(|says| broken(file, &says))?;
        objects.extend(documents(&text).map_err(|says| broken(file, &says))?);
    }
    Ok(objects)
}

/// Every document of a file that holds something.
pub(crate) fn documents(text: &str) -> Result<Vec<Value>, String> {
    let pieces = document::split(text).map_err(|error| error.to_string())?;
    let read = |piece: document::Piece<'_>| {
        serde_saphyr::from_str::<Value>(piece.text).map_err(|error| format!("line {}: {error}", piece.line))
    };
    pieces.into_iter().map(read).filter(|read| !matches!(read, Ok(Value::Null))).collect()
}

fn yaml(text: &str) -> Result<Value, Failure> {
    serde_saphyr::from_str(text)
        .map_err(|error| Failure::new(format!("the chart cannot be read: {error}"), "build ambit anew"))
}
