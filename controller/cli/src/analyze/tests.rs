//! Suspicious manifests and what is found in them; and that nothing is found where nothing is wrong.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use ambit_crds::{Code, Fault, Severity, load_once};
use proptest::prelude::*;

use super::{Analysis, page};
use crate::failure::End;
use crate::output::{Format, render};

static FOLDER: AtomicU32 = AtomicU32::new(0);

/// The findings in a text, as if it were a file of a folder.
fn analysed(text: &str) -> Analysis {
    let number = FOLDER.fetch_add(1, Ordering::Relaxed);
    let folder = std::env::temp_dir().join(format!("ambit-analyze-{}-{number}", std::process::id()));
    fs::create_dir_all(&folder).unwrap();
    fs::write(folder.join("x.yaml"), text).unwrap();
    let analysis = Analysis::of(load_once(std::slice::from_ref(&folder)));
    fs::remove_dir_all(&folder).unwrap();
    analysis
}

/// `severity CODE Kind namespace/name field line`.
fn row(fault: &Fault) -> String {
    let severity = format!("{:?}", fault.severity).to_lowercase();
    let object = fault.object.as_ref().map_or("-".to_owned(), ToString::to_string);
    format!("{severity} {} {object} {} {}", fault.code, fault.field.as_deref().unwrap_or("-"), fault.line)
}

fn files(folder: &str) -> Vec<(PathBuf, String)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join(folder);
    let entries = fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path());
    let yaml = entries.filter(|path| path.extension().is_some_and(|end| end == "yaml"));
    let mut files: Vec<_> = yaml.map(|path| (path.clone(), fs::read_to_string(path).unwrap())).collect();
    files.sort();
    files
}

/// Each file begins with what is to be found in it, a comment each, or `# nothing`.
#[test]
fn suspicious_manifests_have_their_findings_and_no_others() {
    let files = files("src/analyze/testdata");
    assert!(files.len() >= 50, "{}", files.len());
    for (path, text) in files {
        let expected: Vec<&str> = text.lines().map_while(|line| line.strip_prefix("# ")).collect();
        let found: Vec<String> = analysed(&text).faults.iter().map(row).collect();
        let found = if found.is_empty() { vec!["nothing".to_owned()] } else { found };
        assert_eq!(found, expected, "{}", path.display());
    }
}

#[test]
fn the_example_of_every_page_has_the_pages_finding() {
    for code in Code::ALL {
        let Some((_, rest)) = code.page().split_once("```yaml\n") else { continue };
        let example = rest.split("```").next().unwrap();
        let analysis = analysed(example);
        let found: Vec<String> = analysis.faults.iter().map(row).collect();
        assert!(analysis.faults.iter().any(|fault| fault.code == *code), "{code}: {found:?}");
        for fault in &analysis.faults {
            assert!(!fault.mend.is_empty(), "{code}: {fault}");
            assert!(fault.line > 0, "{code}: {fault}");
        }
    }
}

/// What the project itself gives people to try has no errors, and what is healthy has no findings at all.
#[test]
fn samples_are_no_cause_for_alarm() {
    let samples = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let mut folders = Vec::new();
    for parent in ["integration/samples", "deploy/samples"] {
        let Ok(entries) = fs::read_dir(samples.join(parent)) else { continue };
        folders.extend(entries.map(|entry| entry.unwrap().path()).filter(|path| path.is_dir()));
    }
    assert!(folders.len() >= 3, "{folders:?}");
    // The guided path applies one file after the other, some of them in place of an earlier one.
    folders.retain(|folder| !folder.ends_with("guides"));
    for folder in folders {
        no_errors(&Analysis::of(load_once(&[folder])));
    }
    let guides = samples.join("deploy/samples/guides");
    let steps = fs::read_dir(&guides).unwrap().map(|entry| entry.unwrap().path());
    let is_step =
        |path: &Path| path.extension().is_some_and(|end| end == "yaml") && !path.ends_with("path.yaml");
    let mut steps: Vec<_> = steps.filter(|path| is_step(path)).collect();
    steps.sort();
    assert!(steps.len() >= 4, "{steps:?}");
    // Later folders override earlier ones, as a step does what was applied before.
    let copy = std::env::temp_dir().join(format!("ambit-analyze-steps-{}", std::process::id()));
    let mut applied = vec![guides.join("start")];
    for (at, step) in steps.iter().enumerate() {
        let folder = copy.join(at.to_string());
        fs::create_dir_all(&folder).unwrap();
        fs::copy(step, folder.join("step.yaml")).unwrap();
        applied.push(folder);
        no_errors(&Analysis::of(load_once(&applied)));
    }
    fs::remove_dir_all(&copy).unwrap();
}

fn no_errors(analysis: &Analysis) {
    let errors = analysis.faults.iter().filter(|fault| fault.severity == Severity::Error);
    let errors: Vec<String> = errors.map(ToString::to_string).collect();
    assert!(errors.is_empty(), "{errors:#?}");
}

/// The lab's tests use what the guides show, with workloads of their own.
#[test]
fn manifests_of_the_guides_shape_are_no_cause_for_alarm() {
    let files = files("../../integration/tests/manifests");
    assert!(files.len() > 10);
    for (path, text) in files {
        let analysis = analysed(&text);
        let errors = analysis.faults.iter().filter(|fault| fault.severity == Severity::Error);
        let errors: Vec<String> = errors.map(ToString::to_string).collect();
        assert!(errors.is_empty(), "{}: {errors:#?}", path.display());
    }
}

#[test]
fn every_code_has_a_page_and_others_say_so() {
    for code in Code::ALL {
        assert_eq!(page(&code.name().to_lowercase()).unwrap(), code.page());
    }
    assert!(page("AMB010l").unwrap_err().to_string().contains("--explain AMB010"));
    assert!(page("nonsense").unwrap_err().to_string().contains("second column"));
}

fn printed(analysis: &Analysis, format: Format) -> String {
    render(analysis, format).unwrap()
}

#[test]
fn what_is_printed() {
    let text = "apiVersion: v1\nkind: Namespace\nmetadata: {name: a, labels: {istio-injection: enabled}}\n---\napiVersion: security.istio.io/v1\nkind: AuthorizationPolice\nmetadata: {name: b}\n";
    let analysis = analysed(text);
    assert_eq!(analysis.end(), End::No);
    let table = printed(&analysis, Format::Table);
    let lines: Vec<&str> = table.lines().collect();
    assert!(
        lines[0].starts_with("error    AMB0006  ")
            && lines[0].contains("x.yaml:6: unknown kind \"AuthorizationPolice\"")
    );
    assert!(
        lines[1].starts_with("warning  AMB0302  ") && lines[1].contains("x.yaml:3: Namespace a: "),
        "{table}"
    );
    assert!(lines[2].starts_with("1 error, 1 warning and 0 notes in 1 object; "), "{table}");
    let json: serde_json::Value = serde_json::from_str(&printed(&analysis, Format::Json)).unwrap();
    assert_eq!((&json[0]["code"], &json[0]["severity"]), (&"AMB0006".into(), &"error".into()));
    assert_eq!((&json[1]["object"]["kind"], &json[1]["line"]), (&"Namespace".into(), &3.into()));
    let yaml: serde_json::Value = serde_saphyr::from_str(&printed(&analysis, Format::Yaml)).unwrap();
    assert_eq!(yaml, json);
    let healthy = analysed("apiVersion: v1\nkind: Namespace\nmetadata: {name: a}\n");
    assert_eq!(
        (printed(&healthy, Format::Table).as_str(), healthy.end()),
        ("nothing found in 1 object\n", End::Yes)
    );
    assert_eq!(Analysis::of(load_once(&["/nonexistent/folder".into()])).end(), End::Unknown);
}

/// `count` objects in namespaces of 48: seven sorts of them, with mistakes.
fn many(count: usize) -> String {
    let mut text = String::new();
    for number in 0..count {
        let (namespace, app) = (number / 48, number / 6 % 8);
        let object = match number % 6 {
            0 if app == 0 => format!(
                "v1\nkind: Namespace\nmetadata: {{name: n{namespace}, labels: {{istio.io/dataplane-mode: ambient, ambit.mesh/waypoint: auto}}}}"
            ),
            0 => format!(
                "security.istio.io/v1\nkind: PeerAuthentication\nmetadata: {{name: a{app}, namespace: n{namespace}}}\nspec: {{selector: {{matchLabels: {{app: a{app}}}}}, mtls: {{mode: STRICT}}}}"
            ),
            1 => format!(
                "apps/v1\nkind: Deployment\nmetadata: {{name: a{app}, namespace: n{namespace}}}\nspec:\n  selector: {{matchLabels: {{app: a{app}}}}}\n  template:\n    metadata: {{labels: {{app: a{app}, version: v1}}}}\n    spec: {{serviceAccountName: a{app}, containers: [{{name: c, image: i, ports: [{{containerPort: 8080}}]}}]}}"
            ),
            2 => format!(
                "v1\nkind: Service\nmetadata: {{name: a{app}, namespace: n{namespace}}}\nspec: {{selector: {{app: a{app}}}, ports: [{{name: http, port: 80, targetPort: 8080}}]}}"
            ),
            3 => format!(
                "networking.istio.io/v1\nkind: VirtualService\nmetadata: {{name: a{app}, namespace: n{namespace}}}\nspec:\n  hosts: [a{app}]\n  http:\n  - route:\n    - {{destination: {{host: a{app}, subset: v1}}, weight: 50}}\n    - {{destination: {{host: a{app}, subset: v2}}, weight: 40}}"
            ),
            4 => format!(
                "networking.istio.io/v1\nkind: DestinationRule\nmetadata: {{name: a{app}, namespace: n{namespace}}}\nspec: {{host: a{app}, subsets: [{{name: v1, labels: {{version: v1}}}}]}}"
            ),
            _ => format!(
                "security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata: {{name: a{app}, namespace: n{namespace}}}\nspec:\n  selector: {{matchLabels: {{app: a{app}}}}}\n  rules:\n  - from: [{{source: {{principals: [cluster.local/ns/n{namespace}/sa/a0]}}}}]\n    to: [{{operation: {{methods: [GET]}}}}]"
            ),
        };
        write!(text, "---\napiVersion: {object}\n").unwrap();
    }
    text
}

/// The promise is a second, for a program that was built to be fast, on a machine that does nothing else.
#[test]
fn a_thousand_objects_take_no_time() {
    let text = many(1000);
    let began = Instant::now();
    let analysis = analysed(&text);
    let took = began.elapsed();
    println!("{} findings in {} objects in {took:?}", analysis.faults.len(), analysis.objects);
    assert_eq!(analysis.objects, 1000);
    assert!(analysis.count(Severity::Error) > 100);
    assert!(took < Duration::from_secs(20), "{took:?}");
}

/// Words to put where others stand.
const WORDS: [&str; 24] = [
    "web",
    "shop",
    "\"*\"",
    "\"\"",
    "null",
    "0",
    "65536",
    "-1",
    "1e99",
    "true",
    "[]",
    "{}",
    "[{}]",
    "auto",
    "none",
    "AUDIT",
    "CUSTOM",
    "DENY",
    "mesh",
    "cluster.local",
    "spiffe://x",
    "*.shop.svc.cluster.local",
    "{**}",
    "\u{1F980}",
];

/// One careless change of a text.
fn spoil(text: &str, (what, place, word): (u8, usize, usize)) -> String {
    let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
    let at = place % lines.len();
    let word = WORDS[word % WORDS.len()];
    match what % 6 {
        0 => drop(lines.remove(at)),
        1 => lines.insert(at, lines[at].clone()),
        2 => lines[at] = format!("  {}", lines[at]),
        3 => {
            let end = lines[at].find(": ").map_or(0, |colon| colon + 2);
            lines[at].replace_range(end.., word);
        }
        4 => {
            let other = lines[(place / 7) % lines.len()].clone();
            lines[at] = other;
        }
        _ => {
            let parts: Vec<&str> = text.split([' ', ',', '}', ']']).filter(|part| part.len() > 1).collect();
            let part = parts[place % parts.len()];
            return text.replacen(part, word, 1);
        }
    }
    lines.join("\n")
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn careless_changes_make_it_say_something_and_never_panic(
        first in 0..200usize,
        second in 0..200usize,
        changes in proptest::collection::vec((any::<u8>(), any::<usize>(), any::<usize>()), 1..6),
    ) {
        let files = files("src/analyze/testdata");
        let pick = |number: usize| files[number % files.len()].1.as_str();
        let mut text = format!("{}\n---\n{}", pick(first), pick(second));
        for change in changes {
            if text.lines().count() > 1 {
                text = spoil(&text, change);
            }
        }
        let analysis = analysed(&text);
        for fault in &analysis.faults {
            prop_assert!(!fault.message.is_empty() && !fault.mend.is_empty(), "{:?}", fault);
            prop_assert!(fault.line as usize <= text.lines().count(), "{:?}", fault);
        }
    }
}
