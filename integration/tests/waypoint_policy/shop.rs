//! The lab of these tests: a shop behind a waypoint, whose objects a trial changes and takes back.

use std::sync::Mutex;

use ambit_lab::manifest::Key;
use ambit_lab::{Lab, LabOptions, key_of};
use libtest_mimic::Failed;
use serde_json::Value;

use crate::judged::{Asked, Marks, Met, PATIENCE};
use crate::support::{self, Check, check};

const MANIFESTS: &str = include_str!("../manifests/waypoint-policy.yaml");
/// Everything that everybody may do while no policy is there.
pub(crate) const OPEN: &[&str] = &[
    "alice GET web/ = 200",
    "bob GET web/ = 200",
    "carol GET web/ = 200",
    "dave GET web/ = 200",
    "erin GET bare/ = 200",
    "alice GET past/ = 200",
    "alice GET web-1:5678/ = 200",
    "bob GET bare/ = 200",
];

/// A running lab.
pub(crate) struct Shop {
    pub(crate) lab: Lab,
    /// What is to be taken back: objects by kind and name.
    applied: Mutex<Vec<(String, String)>>,
    /// Labels and annotations.
    marked: Mutex<Vec<Mark>>,
}

/// A label or annotation of an object, with the value it had.
struct Mark {
    object: Key,
    field: &'static str,
    key: String,
    before: Value,
}

/// A call that was made, as its line says.
struct Made<'l> {
    line: &'l str,
    asked: Asked,
    expected: &'l str,
    met: Met,
}

/// Objects, and calls with what becomes of them while these objects are there.
pub(crate) struct Row {
    pub(crate) what: &'static str,
    /// `namespace/name: spec` of an AuthorizationPolicy, or the same after another kind; `S(web)` stands for a selector,
    /// `T(web)` for targetRefs, `{alice}` for an address.
    pub(crate) objects: &'static [&'static str],
    pub(crate) calls: &'static [&'static str],
}

impl Shop {
    pub(crate) fn up() -> Result<Self, Failed> {
        let lab = Lab::up(support::named(LabOptions::inline(MANIFESTS)))?;
        check(lab.faults().is_empty(), || format!("{:?}", lab.faults()))?;
        lab.settled()?;
        let shop = Shop { lab, applied: Mutex::default(), marked: Mutex::default() };
        shop.comes_to("everything open", OPEN)?;
        Ok(shop)
    }

    /// Applies an object, as a row writes it.
    pub(crate) fn put(&self, text: &str) -> Check {
        let (head, spec) = text.split_once(": ").ok_or("an object is `namespace/name: spec`")?;
        let (kind, name) = head.split_once(' ').unwrap_or(("AuthorizationPolicy", head));
        let (namespace, own) = name.split_once('/').ok_or("a name without namespace")?;
        let group = match kind {
            "AuthorizationPolicy" | "PeerAuthentication" => "security.istio.io/v1",
            "Gateway" => "gateway.networking.k8s.io/v1",
            "Pod" | "ConfigMap" | "Service" => "v1",
            _ => "networking.istio.io/v1",
        };
        let (annotations, spec) = match spec.strip_prefix("dry-run, ") {
            Some(spec) => ("{istio.io/dry-run: 'true'}", spec),
            None => ("{}", spec),
        };
        let spec = self.expanded(spec)?;
        let body =
            if kind == "ConfigMap" { format!("data: {{{spec}}}") } else { format!("spec: {{{spec}}}") };
        let faults = self.lab.apply(&format!(
            "{{apiVersion: {group}, kind: {kind}, metadata: {{name: {own}, namespace: {namespace}, annotations: {annotations}}}, {body}}}"
        ))?;
        check(faults.is_empty(), || format!("{text}: {faults:?}"))?;
        let entry = (kind.to_owned(), name.to_owned());
        let mut applied = self.applied.lock().map_err(|_| "poisoned")?;
        if !applied.contains(&entry) {
            applied.push(entry);
        }
        Ok(())
    }

    /// Takes back a policy before the others.
    pub(crate) fn remove(&self, name: &str) -> Check {
        let mut applied = self.applied.lock().map_err(|_| "poisoned")?;
        applied.retain(|(kind, other)| kind != "AuthorizationPolicy" || other != name);
        Ok(self.lab.delete(&[key_of("AuthorizationPolicy", name)])?)
    }

    /// `S(web)`, `S(version=v1)`, `T(web,side)` and `{alice}` in full.
    fn expanded(&self, spec: &str) -> Result<String, Failed> {
        let mut spec = spec.to_owned();
        for (short, end) in [("S(", "}"), ("T(", "]")] {
            let Some(rest) = spec.strip_prefix(short) else { continue };
            let (inside, after) = rest.split_once(')').ok_or("a bracket is open")?;
            let long = if short == "S(" {
                let (key, value) = inside.split_once('=').unwrap_or(("app", inside));
                format!("selector: {{matchLabels: {{{key}: {value}}}{end}")
            } else {
                let one = |target: &str| match target.split_once(' ') {
                    Some((kind, name)) => {
                        format!("{{group: gateway.networking.k8s.io, kind: {kind}, name: {name}}}")
                    }
                    None => format!("{{group: '', kind: Service, name: {target}}}"),
                };
                format!("targetRefs: [{}{end}", inside.split(',').map(one).collect::<Vec<_>>().join(", "))
            };
            spec = format!("{long}{after}");
        }
        for (place, name) in [("shop", "alice"), ("shop", "bob"), ("other", "carol"), ("plain", "dave")] {
            let mark = format!("{{{name}}}");
            if spec.contains(&mark) {
                spec = spec.replace(&mark, &self.lab.pod(&format!("{place}/{name}"))?.address.v4.to_string());
            }
        }
        Ok(spec)
    }

    /// Sets a label or annotation (`field`), or removes it, until [`Shop::clear`].
    pub(crate) fn mark(
        &self,
        (kind, name): (&str, &str),
        field: &'static str,
        key: &str,
        value: Option<&str>,
    ) -> Check {
        let (object, mut before) = (key_of(kind, name), Value::Null);
        self.lab.edit(&object, |object| {
            before = object["metadata"][field][key].clone();
            set(object, field, key, value.map_or(Value::Null, Value::from));
            Ok(())
        })?;
        let mut marked = self.marked.lock().map_err(|_| "poisoned")?;
        let known = |one: &Mark| (&one.object, one.field, &*one.key) == (&object, field, key);
        if !marked.iter().any(known) {
            marked.push(Mark { object, field, key: key.to_owned(), before });
        }
        Ok(())
    }

    /// Takes everything back; everything is open again.
    pub(crate) fn clear(&self) -> Check {
        self.take_back()?;
        self.lab.settled()?;
        self.comes_to("taken back", OPEN)
    }

    fn take_back(&self) -> Check {
        let applied = std::mem::take(&mut *self.applied.lock().map_err(|_| "poisoned")?);
        let keys: Vec<_> = applied.iter().map(|(kind, name)| key_of(kind, name)).collect();
        if !keys.is_empty() {
            self.lab.delete(&keys)?;
        }
        let marked = std::mem::take(&mut *self.marked.lock().map_err(|_| "poisoned")?);
        for mark in marked.into_iter().rev() {
            self.lab.edit(&mark.object, |object| {
                set(object, mark.field, &mark.key, mark.before);
                Ok(())
            })?;
        }
        Ok(())
    }

    /// Makes all calls at once; each must end as its line says.
    pub(crate) fn calls(&self, lines: &[&str]) -> Check {
        let marks = Marks::now(&self.lab);
        let mut faults = Vec::new();
        for Made { line, asked, expected, met } in self.made(lines)? {
            if let Err(fault) = asked.compare(&self.lab, expected, &met, &marks) {
                faults.push(format!("{line}: {}", fault.message().unwrap_or_default()));
            }
        }
        check(faults.is_empty(), || faults.join("\n"))
    }

    fn made<'l>(&self, lines: &[&'l str]) -> Result<Vec<Made<'l>>, Failed> {
        let mut begun = Vec::new();
        for line in lines {
            let (call, expected) =
                line.split_once(" = ").ok_or_else(|| format!("{line:?} expects nothing"))?;
            let asked = Asked::read(&self.lab, call)?;
            let running = asked.start(&self.lab);
            begun.push((*line, asked, expected, running));
        }
        let made = begun.into_iter().map(|(line, asked, expected, running)| {
            let met = running.join().unwrap_or_else(|_panic| Met::Cut("the caller failed".to_owned()));
            Made { line, asked, expected, met }
        });
        Ok(made.collect())
    }

    /// Waits until all calls end as their lines say.
    pub(crate) fn comes_to(&self, what: &str, lines: &[&str]) -> Check {
        let start = std::time::Instant::now();
        loop {
            match self.calls(lines) {
                Ok(()) => return Ok(()),
                Err(fault) if start.elapsed() > PATIENCE => {
                    let said = fault.message().unwrap_or_default().to_owned();
                    return Err(format!("{what}: {said}\n{}", self.lab.status()).into());
                }
                Err(_not_yet) => std::thread::sleep(std::time::Duration::from_millis(10)),
            }
        }
    }

    /// Applies the objects of each row alone and makes its calls.
    pub(crate) fn rows(&self, rows: &[Row]) -> Check {
        let mut faults = Vec::new();
        for row in rows {
            let start = std::time::Instant::now();
            row.objects.iter().try_for_each(|object| self.put(object))?;
            self.lab.settled()?;
            if let Err(fault) = self.calls(row.calls) {
                faults.push(format!("{}:\n{}", row.what, fault.message().unwrap_or_default()));
            }
            self.clear()?;
            println!("{:>5} ms {}", start.elapsed().as_millis(), row.what);
        }
        let calls: usize = rows.iter().map(|row| row.calls.len()).sum();
        println!("{} rows, {calls} calls", rows.len());
        check(faults.is_empty(), || faults.join("\n\n"))
    }

    /// The condition of an object of this type and reason: its status and message.
    pub(crate) fn condition(
        &self,
        (kind, name): (&str, &str),
        (condition, reason): (&str, &str),
    ) -> Result<(String, String), Failed> {
        let file =
            self.lab.folder().join("state/status").join(format!("{kind}.{}.json", name.replace('/', ".")));
        let start = std::time::Instant::now();
        loop {
            let text = std::fs::read_to_string(&file).unwrap_or_default();
            let status: Value = serde_json::from_str(&text).unwrap_or_default();
            let all = status.get("conditions").unwrap_or(&status).as_array().cloned().unwrap_or_default();
            let of = |one: &Value, field: &str| one[field].as_str().unwrap_or_default().to_owned();
            let found = all.iter().find(|one| of(one, "type") == condition && of(one, "reason") == reason);
            if let Some(found) = found {
                return Ok((of(found, "status"), of(found, "message")));
            }
            check(start.elapsed() < PATIENCE, || {
                format!("{kind} {name}: no condition {condition} for {reason} in {text:?}")
            })?;
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
    }
}

fn set(object: &mut Value, field: &str, key: &str, value: Value) {
    let map = &mut object["metadata"][field];
    if value.is_null() {
        if let Some(map) = map.as_object_mut() {
            map.remove(key);
        }
    } else {
        map[key] = value;
    }
}
