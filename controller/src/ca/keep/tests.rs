//! The root on disk: made once, kept, and refused when in doubt.

use super::*;

struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("ambit-keep-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&path);
        Self(path)
    }

    fn open(&self) -> Result<Root, KeepError> {
        Root::load_or_create(&self.0, &TrustDomain::default(), SystemTime::now())
    }

    fn mode(&self, name: &str) -> u32 {
        fs::metadata(self.0.join(name)).expect("there").permissions().mode() & 0o777
    }

    fn chmod(&self, name: &str, mode: u32) {
        fs::set_permissions(self.0.join(name), fs::Permissions::from_mode(mode)).expect("ours");
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

#[test]
fn a_root_is_made_once_with_narrow_modes_and_kept() {
    let folder = Folder::new("once");
    let made = folder.open().expect("made");
    assert_eq!((folder.mode(""), folder.mode(KEY), folder.mode(CERTIFICATE)), (0o700, 0o600, 0o644));
    assert_eq!(fs::read_dir(&folder.0).expect("readable").count(), 2, "nothing left behind");
    let kept = folder.open().expect("kept");
    assert_eq!((made.pem, made.key.serialize_pem()), (kept.pem, kept.key.serialize_pem()));
    let years = kept.not_after.duration_since(SystemTime::now()).expect("later").as_secs() / (365 * 86_400);
    assert!((9..=10).contains(&years), "{years}");
}

#[test]
fn a_root_that_others_can_read_or_replace_is_refused() {
    let folder = Folder::new("modes");
    folder.open().expect("made");
    for (name, mode, mend) in
        [(KEY, 0o640, 0o600), (KEY, 0o604, 0o600), ("", 0o770, 0o700), ("", 0o702, 0o700)]
    {
        folder.chmod(name, mode);
        let refused = folder.open().err().map(|error| error.to_string()).unwrap_or_default();
        assert!(refused.contains("chmod"), "{name} {mode:o}: {refused:?}");
        folder.chmod(name, mend);
        folder.open().expect("the control");
    }
}

#[test]
fn a_pair_that_does_not_match_is_an_error_and_never_a_new_root() {
    let (folder, other) = (Folder::new("pair"), Folder::new("other"));
    let root = folder.open().expect("made").pem;
    other.open().expect("made");
    let ours = fs::read_to_string(folder.0.join(KEY)).expect("readable");
    fs::copy(other.0.join(KEY), folder.0.join(KEY)).expect("copied");
    assert!(matches!(folder.open(), Err(KeepError::Mismatch { .. })));
    fs::remove_file(folder.0.join(KEY)).expect("removed");
    assert!(matches!(folder.open(), Err(KeepError::KeyMissing { .. })));
    write_once(&folder.0.join(KEY), "rubbish", 0o600).expect("written");
    assert!(matches!(folder.open(), Err(KeepError::Unusable { .. })));
    write_once(&folder.0.join(KEY), &ours, 0o600).expect("nothing to do");
    assert!(folder.open().is_err(), "an existing file is never written over");
    fs::remove_file(folder.0.join(KEY)).expect("removed");
    write_once(&folder.0.join(KEY), &ours, 0o600).expect("written");
    assert_eq!(folder.open().expect("restored").pem, root);
}

#[test]
fn a_crash_between_key_and_certificate_is_mended() {
    let folder = Folder::new("crash");
    let key = folder.open().expect("made").key.serialize_pem();
    fs::remove_file(folder.0.join(CERTIFICATE)).expect("removed");
    assert_eq!(folder.open().expect("mended").key.serialize_pem(), key);
}
