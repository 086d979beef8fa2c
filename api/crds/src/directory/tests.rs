//! The directory source against real folders.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;

use super::{DirectorySource, Loaded, load_beside, load_once};
use crate::fault::{Effect, Fault, Severity};
use crate::kind::Kind;
use crate::meta::ObjectRef;
use crate::object::{Names, Object};
use crate::source::{Source, SourceEvent, Started};

const POLICY: &str = "
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: callers, namespace: shop}
spec:
  selector: {matchLabels: {app: api}}
  rules:
  - from:
    - source:
        principals: [cluster.local/ns/shop/sa/web]
";

/// A folder that is gone with the test.
pub(crate) struct Scratch(PathBuf);

impl Scratch {
    pub(crate) fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("ambit-crds-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&path);
        fs::create_dir_all(path.join("a")).unwrap();
        fs::create_dir_all(path.join("b")).unwrap();
        Self(path)
    }

    pub(crate) fn write(&self, file: &str, text: impl AsRef<[u8]>) {
        fs::write(self.0.join("new"), text).unwrap();
        fs::rename(self.0.join("new"), self.0.join(file)).unwrap();
    }

    pub(crate) fn path(&self, file: &str) -> PathBuf {
        self.0.join(file)
    }

    fn load(&self) -> Loaded {
        load_once(&[self.path("a"), self.path("b")])
    }

    fn start(&self) -> Watched {
        let directories = vec![self.path("a"), self.path("b")];
        Watched(Box::new(DirectorySource { directories, state: self.path("state") }).start().unwrap())
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// A running source, read with a time-out.
struct Watched(Started);

impl Watched {
    fn next(&mut self) -> SourceEvent {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        let events: &mut mpsc::Receiver<SourceEvent> = &mut self.0.events;
        let next =
            runtime.block_on(async { tokio::time::timeout(Duration::from_secs(10), events.recv()).await });
        next.expect("an event within ten seconds").expect("the source is alive")
    }

    /// Every event up to the end of the first listing, or of the listing asked for.
    fn until_listed(&mut self) -> Vec<SourceEvent> {
        let ticket = self.0.rescan.rescan();
        let mut events = Vec::new();
        loop {
            match self.next() {
                SourceEvent::Rescanned(answer) if answer >= ticket => return events,
                event => events.push(event),
            }
        }
    }
}

fn faults(events: &[SourceEvent]) -> Vec<&Fault> {
    let mut faults = Vec::new();
    for event in events {
        if let SourceEvent::Reported(fault) = event
            && fault.severity == Severity::Error
        {
            faults.push(fault);
        }
    }
    faults
}

fn applied(events: &[SourceEvent]) -> Vec<Arc<Object>> {
    let of_event = |event: &SourceEvent| match event {
        SourceEvent::Applied(object) => Some(object.clone()),
        _ => None,
    };
    events.iter().filter_map(of_event).collect()
}

fn namespace(name: &str, label: &str) -> String {
    format!("apiVersion: v1\nkind: Namespace\nmetadata: {{name: {name}, labels: {{l: {label:?}}}}}\n")
}

fn errors(loaded: &Loaded) -> Vec<String> {
    let errors = loaded.faults.iter().filter(|fault| fault.severity == Severity::Error);
    errors.map(|fault| Path::new(&fault.to_string()).display().to_string()).collect()
}

#[test]
fn later_folders_override_and_take_away_and_the_first_appearance_is_the_birth() {
    let scratch = Scratch::new("override");
    scratch.write(
        "a/1.yaml",
        format!("{}---\n{}---\n{}", namespace("x", "1"), namespace("why", "1"), namespace("z", "1")),
    );
    scratch.write("b/9.yaml", format!("{}---\n{}", namespace("why", "2"), namespace("w", "2")));
    let gone =
        "apiVersion: v1\nkind: Namespace\nmetadata: {name: z, annotations: {ambit.mesh/deleted: 'true'}}\n";
    scratch.write("b/8.yaml", gone);
    let loaded = scratch.load();
    assert_eq!(errors(&loaded), Vec::<String>::new());
    let seen: Vec<_> =
        loaded.objects.iter().map(|one| (one.meta().name.as_str(), one.meta().label("l").unwrap())).collect();
    assert_eq!(seen, [("x", "1"), ("why", "2"), ("w", "2")]);
}

#[test]
fn creation_is_folder_then_file_name_then_place_in_the_file_and_in_a_list() {
    let scratch = Scratch::new("order");
    let list = "apiVersion: v1\nkind: List\nitems:\n- {apiVersion: v1, kind: Namespace, metadata: {name: c}}\n- {apiVersion: v1, kind: Namespace, metadata: {name: b}}\n";
    scratch.write("a/2.yaml", list);
    scratch.write("a/3.json", r#"{"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "a"}}"#);
    scratch.write("a/1.yml", namespace("z", "1"));
    scratch.write("b/0.yaml", namespace("aa", "1"));
    scratch.write("a/.hidden.yaml", namespace("hidden", "1"));
    scratch.write("a/notes.txt", "not: read");
    let loaded = scratch.load();
    let names: Vec<_> = loaded.objects.iter().map(|one| one.meta().name.clone()).collect();
    assert_eq!(names, ["z", "c", "b", "a", "aa"]);
}

#[test]
fn the_first_of_duplicates_stays_and_both_places_are_named() {
    let scratch = Scratch::new("duplicates");
    scratch.write("a/1.yaml", namespace("x", "first"));
    scratch.write("a/2.yaml", format!("{}---\n{}", namespace("why", "1"), namespace("x", "second")));
    let loaded = scratch.load();
    let [error] = errors(&loaded).try_into().unwrap();
    assert!(error.contains("2.yaml:5: Namespace x: metadata.name: the same object stands at"), "{error}");
    assert!(error.contains("1.yaml:1, which stays in force; remove or rename one"), "{error}");
    assert_eq!(loaded.objects[0].meta().label("l"), Some("first"));
}

#[test]
fn bad_files_say_so_and_disturb_nothing_else() {
    let scratch = Scratch::new("bad");
    scratch.write("a/ok.yaml", namespace("ok", "1"));
    scratch.write("a/broken.yaml", format!("kind: [\n---\n{}", namespace("beside", "1")));
    scratch.write("a/binary.yaml", [0xff, 0xfe, 0x00, 0x01]);
    scratch.write("a/large.yaml", vec![b'#'; 4 * 1024 * 1024 + 1]);
    scratch.write("a/many.yaml", "a: 1\n---\n".repeat(10_001));
    scratch.write("a/deep.yaml", "[".repeat(10_000));
    let bomb = "a: &a [x,x,x,x,x,x,x,x,x,x]\nb: &b [*a,*a,*a,*a,*a,*a,*a,*a,*a,*a]\nc: &c [*b,*b,*b,*b,*b,*b,*b,*b,*b,*b]\nd: &d [*c,*c,*c,*c,*c,*c,*c,*c,*c,*c]\ne: &e [*d,*d,*d,*d,*d,*d,*d,*d,*d,*d]\nf: [*e,*e,*e,*e,*e,*e,*e,*e,*e,*e]\n";
    scratch.write("a/bomb.yaml", bomb);
    let loaded = scratch.load();
    let names: Vec<_> = loaded.objects.iter().map(|one| one.meta().name.clone()).collect();
    assert_eq!(names, ["beside", "ok"]);
    let errors = errors(&loaded);
    for (file, part) in [
        ("broken.yaml:", "not YAML"),
        ("binary.yaml:", "no UTF-8 text"),
        ("large.yaml:", "larger than 4 MiB"),
        ("many.yaml:", "more than 10000 documents"),
        ("deep.yaml:", "not YAML"),
        ("bomb.yaml:", "not YAML"),
    ] {
        assert!(
            errors.iter().any(|line| line.contains(file) && line.contains(part)),
            "{file} {part}: {errors:#?}"
        );
    }
    assert_eq!(errors.len(), 6, "{errors:#?}");
}

#[test]
fn an_empty_folder_is_noted_and_a_missing_one_is_an_error() {
    let scratch = Scratch::new("empty");
    fs::remove_dir(scratch.path("b")).unwrap();
    let loaded = scratch.load();
    let said: Vec<_> = loaded.faults.iter().map(|fault| (fault.severity, fault.to_string())).collect();
    assert_eq!(said[0].0, Severity::Note);
    assert!(said[0].1.ends_with("/a: holds no manifests; put .yaml, .yml or .json files there"), "{said:?}");
    assert_eq!(said[1].0, Severity::Error);
    assert!(said[1].1.contains("/b: cannot be read"), "{said:?}");
}

#[test]
fn a_policy_that_was_never_valid_names_what_it_closes() {
    let scratch = Scratch::new("never");
    scratch.write("a/1.yaml", POLICY.replace("principals", "princpals"));
    let loaded = scratch.load();
    assert!(loaded.objects.is_empty());
    let invalid = &loaded.invalid[0];
    assert_eq!(invalid.object, ObjectRef::new(Kind::AuthorizationPolicy, "shop", "callers"));
    let labels = [("app".to_owned(), "api".to_owned())].into();
    assert_eq!(invalid.names, Names::Workloads(labels));
    assert_eq!(invalid.fault.effect, Effect::Closes);
}

/// Every file of a folder, with its text.
fn files(folder: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let mut files: Vec<_> = fs::read_dir(folder)
        .unwrap()
        .flatten()
        .flat_map(|entry| match entry.path() {
            path if path.is_dir() => files(&path),
            path => vec![(path.clone(), fs::read(&path).unwrap())],
        })
        .collect();
    files.sort();
    files
}

#[test]
fn who_looks_from_beside_sees_what_the_mesh_sees_and_writes_nothing() {
    let scratch = Scratch::new("beside");
    scratch.write("a/1.yaml", POLICY);
    let mut source = scratch.start();
    let good = applied(&source.until_listed());
    let object = good[0].reference();
    source.0.status.annotate(&object, "ambit.mesh/seen", Some("yes")).unwrap();
    scratch.write("a/1.yaml", POLICY.replace("principals", "princpals"));
    source.until_listed();
    drop(source);

    let before = files(&scratch.path("state"));
    let folders = [scratch.path("a")];
    let beside = load_beside(&folders, &scratch.path("state"));
    let [seen] = beside.objects.as_slice() else { panic!("{beside:?}") };
    assert_eq!(seen.meta().annotation("ambit.mesh/seen"), Some("yes"));
    assert!(beside.invalid.is_empty(), "the last good version stands: {beside:?}");
    assert_eq!(load_once(&folders).invalid.len(), 1, "without a memory there is no such version");
    fs::remove_file(scratch.path("a/1.yaml")).unwrap();
    assert!(load_beside(&folders, &scratch.path("state")).objects.is_empty());
    assert_eq!(files(&scratch.path("state")), before);
}

#[test]
fn the_last_good_version_stays_across_a_restart_and_goes_with_its_file() {
    let scratch = Scratch::new("last-good");
    scratch.write("a/1.yaml", format!("{}---{POLICY}", namespace("shop", "1")));
    let mut source = scratch.start();
    let good = applied(&source.until_listed());
    assert_eq!(good.len(), 2);

    scratch.write(
        "a/1.yaml",
        format!("{}---{}", namespace("shop", "2"), POLICY.replace("principals", "princpals")),
    );
    let events = source.until_listed();
    let [fault] = faults(&events).try_into().unwrap();
    assert!(
        fault.to_string().ends_with(
            "1.yaml:13: AuthorizationPolicy shop/callers: spec.rules[0].from[0].source.princpals: unknown field; \
             did you mean \"principals\"? (the last good version stays in force)"
        ),
        "{fault}"
    );
    assert_eq!(applied(&events).len(), 1, "only the namespace has changed: {events:?}");
    drop(source);

    let mut again = scratch.start();
    let after: Vec<_> = applied(&again.until_listed());
    assert!(after.iter().any(|object| *object == good[1]), "the policy is the same as before the restart");

    scratch.write("a/1.yaml", "\u{1}: [");
    let events = again.until_listed();
    assert_eq!(faults(&events)[0].effect, Effect::LastGoodStays);
    assert!(!events.iter().any(|event| matches!(event, SourceEvent::Deleted(_))), "{events:?}");
    drop(again);

    let mut third = scratch.start();
    assert_eq!(applied(&third.until_listed()).len(), 2);
    fs::remove_file(scratch.path("a/1.yaml")).unwrap();
    let gone =
        third.until_listed().into_iter().filter(|event| matches!(event, SourceEvent::Deleted(_))).count();
    assert_eq!(gone, 2);
    assert_eq!(fs::read_dir(scratch.path("state/last-good")).unwrap().count(), 0);
}

#[test]
fn a_folder_that_vanishes_keeps_what_it_held_and_is_taken_up_again() {
    let scratch = Scratch::new("vanish");
    scratch.write("a/1.yaml", POLICY);
    let mut source = scratch.start();
    source.until_listed();
    fs::rename(scratch.path("a"), scratch.path("away")).unwrap();
    let events = source.until_listed();
    assert!(faults(&events)[0].to_string().contains("the last good version stays in force"), "{events:?}");
    assert!(!events.iter().any(|event| matches!(event, SourceEvent::Deleted(_))), "{events:?}");
    drop(source);
    let mut again = scratch.start();
    assert_eq!(applied(&again.until_listed()).len(), 1, "also after a restart without the folder");
    fs::rename(scratch.path("away"), scratch.path("a")).unwrap();
    fs::remove_file(scratch.path("a/1.yaml")).unwrap();
    let events = again.until_listed();
    assert!(events.iter().any(|event| matches!(event, SourceEvent::Deleted(_))), "{events:?}");
}

#[test]
fn changes_arrive_by_themselves_and_alone() {
    let scratch = Scratch::new("watch");
    let many: String = (0..100).map(|number| namespace(&format!("n{number}"), "1") + "---\n").collect();
    scratch.write("a/many.yaml", &many);
    let mut source = scratch.start();
    source.until_listed();
    scratch.write(
        "a/many.yaml",
        many.replace("{name: n7, labels: {l: \"1\"}}", "{name: n7, labels: {l: \"2\"}}"),
    );
    let object = loop {
        // A half-written file may be read in between; it is whole in the end.
        match source.next() {
            SourceEvent::Applied(object) => break object,
            SourceEvent::Reported(_) => {}
            other => panic!("{other:?}"),
        }
    };
    assert_eq!((object.meta().name.as_str(), object.meta().label("l")), ("n7", Some("2")));
    assert!(applied(&source.until_listed()).is_empty());
}

#[test]
fn annotations_come_back_for_the_same_uid_only() {
    let scratch = Scratch::new("annotate");
    let pod =
        |uid: &str| format!("apiVersion: v1\nkind: Pod\nmetadata: {{name: p, namespace: ns, uid: {uid}}}\n");
    scratch.write("a/1.yaml", pod("u1"));
    let mut source = scratch.start();
    source.until_listed();
    let object = ObjectRef::new(Kind::Pod, "ns", "p");
    let status = source.0.status.clone();
    status.annotate(&object, "k", Some("v")).unwrap();
    let [pod_with] = applied(&source.until_listed()).try_into().unwrap();
    assert_eq!(pod_with.meta().annotation("k"), Some("v"));
    scratch.write("a/1.yaml", pod("u2"));
    let [successor] = applied(&source.until_listed()).try_into().unwrap();
    assert_eq!(successor.meta().annotation("k"), None);
    fs::remove_file(scratch.path("a/1.yaml")).unwrap();
    source.until_listed();
    assert!(status.annotate(&object, "k", Some("v")).is_err());
}

#[test]
fn a_file_that_is_being_written_is_not_taken_for_its_half() {
    use std::io::Write;
    let scratch = Scratch::new("half-written");
    let (first, second) = (namespace("first", "1"), namespace("second", "1"));
    scratch.write("a/all.yaml", format!("{first}---\n{second}"));
    let mut source = scratch.start();
    assert_eq!(applied(&source.until_listed()).len(), 2);
    // As an editor writes: empty at first, then half, then all of it.
    let path = scratch.path("a/all.yaml");
    let mut file = fs::File::create(&path).unwrap();
    let asked = source.0.rescan.rescan();
    file.write_all(first.as_bytes()).unwrap();
    file.write_all(format!("---\n{}", namespace("second", "2")).as_bytes()).unwrap();
    drop(file);
    let mut changed = Vec::new();
    loop {
        match source.next() {
            SourceEvent::Deleted(object) => panic!("{object} was never away"),
            SourceEvent::Applied(object) => changed.push(object.reference().name),
            SourceEvent::Rescanned(ticket) if ticket >= asked && !changed.is_empty() => break,
            _ => {}
        }
        source.0.rescan.rescan();
    }
    assert_eq!(changed, ["second"]);
}
