//! The chart as it is, its values and their refusals; and the template language case by case.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use serde_json::{Value, json};

use super::run::Run;
use super::template::Templates;
use super::*;

fn wanted(sets: &[&str]) -> Wanted {
    Wanted { sets: sets.iter().map(|set| (*set).to_owned()).collect(), ..Wanted::default() }
}

fn rendered(profile: Profile, sets: &[&str]) -> Vec<Value> {
    let wanted = Wanted { profile, ..wanted(sets) };
    render(&wanted.values().unwrap()).unwrap()
}

fn name(object: &Value) -> String {
    format!("{} {}", object["kind"].as_str().unwrap(), object["metadata"]["name"].as_str().unwrap())
}

fn find(objects: &[Value], wanted: &str) -> Value {
    objects.iter().find(|object| name(object) == wanted).cloned().unwrap_or_default()
}

#[test]
fn every_file_of_the_chart_is_built_in() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../deploy/chart");
    let mut files = BTreeSet::new();
    for part in ["templates", "profiles"] {
        for entry in fs::read_dir(folder.join(part)).unwrap() {
            files.insert(format!("{part}/{}", entry.unwrap().file_name().to_string_lossy()));
        }
    }
    // Helm alone prints it.
    files.remove("templates/NOTES.txt");
    let known = TEMPLATES.iter().chain(&PROFILES).chain([&LAST]).map(|(name, _)| (*name).to_owned());
    assert_eq!(files, known.collect());
    assert!(folder.join("crds/virtualservices.networking.istio.io.yaml").is_file());
}

#[test]
fn each_profile_makes_objects_with_our_labels() {
    for profile in [Profile::Default, Profile::Demo, Profile::Minimal] {
        let objects = rendered(profile, &[]);
        for object in &objects {
            let labels = &object["metadata"]["labels"];
            assert_eq!(labels["app.kubernetes.io/part-of"], "ambit", "{}", name(object));
            assert_eq!(labels["app.kubernetes.io/managed-by"], "ambit", "{}", name(object));
            assert!(says_something(object), "{object}");
        }
        let names: BTreeSet<String> = objects.iter().map(name).collect();
        assert_eq!(names.len(), objects.len());
        let full = profile == Profile::Default;
        assert_eq!(names.contains("PodDisruptionBudget ambit-controller"), full);
        assert_eq!(names.contains("NetworkPolicy ambit-ztunnel"), profile != Profile::Minimal);
        assert_eq!(
            names.contains("ValidatingWebhookConfiguration ambit-validation"),
            profile != Profile::Minimal
        );
    }
}

/// Whether no field is left without a value.
fn says_something(value: &Value) -> bool {
    match value {
        Value::Null => false,
        Value::Array(list) => list.iter().all(says_something),
        Value::Object(fields) => fields.values().all(says_something),
        _ => true,
    }
}

#[test]
fn values_arrive_where_they_belong() {
    let sets = [
        "image.hub=registry.example/mesh,image.tag=1.2,image.pullPolicy=Never,image.pullSecrets={one,two}",
        "controller.replicas=3,controller.env.AMBIT_GATHER=7ms,mesh.trustDomain=td.example,cluster.name=blue",
        r"ztunnel.nodeSelector.disk\.example/kind=ssd,ztunnel.maxUnavailable=10%,node.cni.binDir=/opt/bin",
        "ztunnel.resources.limits.cpu=2,logging.format=json,ztunnel.podAnnotations.team=x",
    ];
    let objects = rendered(Profile::Default, &sets);
    let controller = find(&objects, "Deployment ambit-controller");
    let pod = &controller["spec"]["template"]["spec"];
    assert_eq!(controller["spec"]["replicas"], 3);
    assert_eq!(pod["containers"][0]["image"], "registry.example/mesh/controller:1.2");
    assert_eq!(pod["containers"][0]["imagePullPolicy"], "Never");
    assert_eq!(pod["imagePullSecrets"], json!([{ "name": "one" }, { "name": "two" }]));
    let environment = pod["containers"][0]["env"].as_array().unwrap();
    for (name, value) in [
        ("AMBIT_GATHER", "7ms"),
        ("TRUST_DOMAIN", "td.example"),
        ("CLUSTER_ID", "blue"),
        ("AMBIT_WAYPOINT_IMAGE", "registry.example/mesh/waypoint:1.2"),
        ("LOG_FORMAT", "json"),
    ] {
        assert!(environment.contains(&json!({ "name": name, "value": value })), "{name}: {environment:?}");
    }
    let ztunnel = find(&objects, "DaemonSet ztunnel");
    let pod = &ztunnel["spec"]["template"];
    assert_eq!(
        pod["spec"]["nodeSelector"],
        json!({ "kubernetes.io/os": "linux", "disk.example/kind": "ssd" })
    );
    assert_eq!(pod["spec"]["containers"][0]["resources"]["limits"], json!({ "memory": "1Gi", "cpu": 2 }));
    assert_eq!(pod["metadata"]["annotations"]["team"], "x");
    assert_eq!(ztunnel["spec"]["updateStrategy"]["rollingUpdate"]["maxUnavailable"], "10%");
    let node = find(&objects, "DaemonSet ambit-node");
    assert_eq!(node["spec"]["template"]["spec"]["volumes"][0]["hostPath"]["path"], "/opt/bin");
    let mesh = find(&objects, "ConfigMap ambit");
    let mesh: Value = serde_saphyr::from_str(mesh["data"]["mesh"].as_str().unwrap()).unwrap();
    assert_eq!(mesh, json!({ "trustDomain": "td.example" }));
}

#[test]
fn no_container_may_write_to_its_file_system_or_gain_rights() {
    let objects = rendered(Profile::Default, &[]);
    let mut seen = 0;
    for object in &objects {
        for container in object["spec"]["template"]["spec"]["containers"].as_array().into_iter().flatten() {
            let context = &container["securityContext"];
            assert_eq!(context["readOnlyRootFilesystem"], true);
            assert_eq!(context["allowPrivilegeEscalation"], false);
            assert_eq!(context["capabilities"]["drop"], json!(["ALL"]));
            assert!(container["resources"]["requests"]["cpu"].is_string(), "{container}");
            assert!(container["resources"]["limits"]["memory"].is_string(), "{container}");
            seen += 1;
        }
    }
    assert_eq!(seen, 3);
}

#[test]
fn wrong_values_are_refused_by_name_and_with_a_mend() {
    let cases = [
        ("controller.replica=3", "controller.replica is not known; write replicas"),
        ("contoller.replicas=3", "contoller is not known; write controller"),
        ("controller.replicas=many", "controller.replicas must be integer, not \"many\""),
        ("controller.replicas=0", "controller.replicas must be at least 1"),
        ("image.pullPolicy=Sometimes", "image.pullPolicy must be one of \"Always\""),
        ("image.tag=a b", "image.tag must look like"),
        ("image.hub=", "image.hub must not be empty"),
        ("webhook.enabled=yes", "webhook.enabled must be boolean, not \"yes\""),
        ("ztunnel.resources.limits.memory=much", "ztunnel.resources.limits.memory must look like"),
        (
            "ztunnel.tolerations[0].operater=Exists",
            "ztunnel.tolerations[0].operater is not known; write operator",
        ),
        ("node.cni.binDir=opt", "node.cni.binDir must look like ^/"),
        ("mesh=x", "mesh must be object"),
        ("controller", "no `=`"),
    ];
    for (set, part) in cases {
        let failure = wanted(&[set]).values().unwrap_err().to_string();
        assert!(failure.contains(part), "{set}: {failure}");
    }
    let both = wanted(&["a=1", "b=2"]).values().unwrap_err().to_string();
    assert!(both.contains("a is not known") && both.contains("b is not known"), "{both}");
}

fn run(text: &str) -> Result<String, String> {
    let mut templates = Templates::default();
    let body = templates.read(text).map_err(|error| error.to_string())?;
    let values = json!({ "a": { "b": "x", "n": 15012, "no": false }, "list": ["p", "q"], "none": [], "s": "two\nlines" });
    Run { templates: &templates }.text(&body, &json!({ "Values": values }))
}

#[test]
fn templates_write_what_go_writes() {
    let cases = [
        ("plain", "plain"),
        ("a {{ .Values.a.b }} {{ .Values.a.n }}", "a x 15012"),
        ("a\n{{- /* a note }} */ -}}\n b", "ab"),
        (
            "a \n {{- if .Values.a.no }}\nno\n{{- else if .Values.a.b }}\nyes\n{{- else }}\nother\n{{- end }}\nb",
            "a\nyes\nb",
        ),
        ("{{ range .Values.list }}[{{ . }}]{{ end }}", "[p][q]"),
        (
            "{{ range $k, $v := .Values.a }}{{ $k }}={{ quote $v }},{{ end }}",
            "b=\"x\",n=\"15012\",no=\"false\",",
        ),
        ("{{ range .Values.none }}x{{ end }}{{ with .Values.none }}y{{ else }}z{{ end }}", "z"),
        ("{{ $x := .Values.a.b }}{{ with .Values.a }}{{ .n }}{{ $x }}{{ $.Values.a.b }}{{ end }}", "15012xx"),
        ("{{ toJson .Values.a | quote }}", r#""{\"b\":\"x\",\"n\":15012,\"no\":false}""#),
        ("x:{{ .Values.s | nindent 2 }}", "x:\n  two\n  lines"),
        ("{{ default \"d\" .Values.a.missing }}{{ default \"d\" .Values.a.b }}", "dx"),
        (
            "{{ if and .Values.a.b (not .Values.a.no) }}1{{ end }}{{ if or .Values.a.no .Values.none }}2{{ end }}",
            "1",
        ),
        ("{{ if eq .Values.a.b \"x\" }}1{{ end }}{{ if ne .Values.a.b \"x\" }}2{{ end }}", "1"),
        (
            "{{ define \"f\" }}<{{ .y }}>{{ end }}{{ include \"f\" (dict \"y\" .Values.a.b) | quote }}",
            "\"<x>\"",
        ),
        ("{{ printf \"%s-%d\" .Values.a.b .Values.a.n }}", "x-15012"),
    ];
    for (text, expected) in cases {
        assert_eq!(run(text), Ok(expected.to_owned()), "{text}");
    }
}

#[test]
fn what_the_language_does_not_have_is_refused() {
    let cases = [
        ("{{ if .Values }}", "without `end`"),
        ("{{ end }}", "an end too many"),
        ("{{ else with .x }}", "only `if`"),
        ("{{ .Values.a", "`}}` expected"),
        ("{{ .Values | }}", "something is missing"),
        ("{{ (.Values }}", "something is missing"),
        ("{{ .Values) }}", "misplaced sign"),
        ("{{ lookup \"v1\" }}", "no function lookup"),
        ("{{ include \"nobody\" . }}", "nobody is not defined"),
        ("{{ $x }}", "$x is not set"),
        ("{{ .Values.a.b.c }}", "what holds it is no map"),
        ("{{ fail \"because\" }}", "because"),
        ("{{ quote }}", "wrong arguments"),
        ("{{ `raw` }}", "is not understood"),
        ("\n{{ }}", "line 2: nothing in it"),
    ];
    for (text, part) in cases {
        let wrong = run(text).unwrap_err();
        assert!(wrong.contains(part), "{text}: {wrong}");
    }
}
