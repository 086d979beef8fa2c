//! What the command reads from its surroundings, in one place: where labs keep their folders.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;

use ambit_process::settings::Environment;

/// The folder that holds the folders of this user's labs.
const LABS: &str = "AMBIT_LAB_DIR";
/// Where that folder is when [`LABS`] is not set and this can be written to.
const RUNTIME: &str = "XDG_RUNTIME_DIR";

/// The folders that may hold the folders of this user's labs, as the lab itself chooses among them.
pub(crate) fn labs(environment: &dyn Environment) -> Vec<PathBuf> {
    let set = |name: &str| environment.get(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    if let Some(folder) = set(LABS) {
        return vec![folder];
    }
    let runtime = set(RUNTIME).map(|folder| folder.join("ambit-lab"));
    let user = fs::metadata("/proc/self").map(|about| about.uid()).unwrap_or_default();
    runtime.into_iter().chain([PathBuf::from(format!("/tmp/ambit-lab-{user}"))]).collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[test]
    fn the_named_folder_alone_else_both_usual_ones() {
        let of = |pairs: &[(&str, &str)]| {
            let map: BTreeMap<String, String> =
                pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
            labs(&map)
        };
        assert_eq!(of(&[(LABS, "/a"), (RUNTIME, "/b")]), [PathBuf::from("/a")]);
        let usual = of(&[(LABS, ""), (RUNTIME, "/b")]);
        assert_eq!(usual[0], PathBuf::from("/b/ambit-lab"));
        assert!(usual[1].to_string_lossy().starts_with("/tmp/ambit-lab-"), "{usual:?}");
        assert_eq!(of(&[]).len(), 1);
    }
}
