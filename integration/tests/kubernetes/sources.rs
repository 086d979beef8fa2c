//! One translation for both sources: what the cluster's controller tells proxies is what a controller tells them that reads
//! the same objects from a folder.

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use ambit_lab::cluster::{Cluster, SYSTEM, eventually};
use ambit_lab::http::request;
use ambit_lab::tokens::Tokens;
use libtest_mimic::Failed;
use serde_json::Value;

use crate::mesh::SOON;
use crate::support::{Check, check};

/// The controller's administration, and what it shows there.
const ADMIN: u16 = 15014;
const SNAPSHOT: &str = "/debug/snapshot";
const READY: &str = "/healthz/ready";
/// Longest time for one question.
const LIMIT: Duration = Duration::from_secs(10);

/// A controller of this machine that reads a folder; gone with the folder when this is dropped.
struct Beside {
    child: Child,
    folder: PathBuf,
    admin: u16,
}

impl Drop for Beside {
    fn drop(&mut self) {
        let _ended = self.child.kill();
        let _waited = self.child.wait();
        let _removed = std::fs::remove_dir_all(&self.folder);
    }
}

/// Compares what both say, until they say the same: objects may be on their way.
pub(crate) fn agree(cluster: &Cluster) -> Check {
    let mut told = 0;
    eventually("one snapshot from both sources", SOON, || {
        let both = both(cluster).map_err(|failed| format!("{failed:?}"))?;
        told = both.0.to_string().len();
        match differ("", &both.0, &both.1) {
            None => Ok(()),
            Some(where_) => Err(where_),
        }
    })?;
    println!("both sources make the same snapshot of {told} bytes");
    check(told > 10_000, || format!("the snapshot has {told} bytes"))
}

fn both(cluster: &Cluster) -> Result<(Value, Value), Failed> {
    let controller = cluster.ask((SYSTEM, "deploy/ambit-controller"), ADMIN, SNAPSHOT)?;
    let beside = Beside::start(cluster)?;
    let own = eventually("a snapshot of the folder", SOON, || {
        beside.snapshot().map_err(|failed| format!("{failed:?}"))
    })?;
    let mut both = (serde_json::from_str::<Value>(&controller.body)?, own);
    for one in [&mut both.0, &mut both.1] {
        // It counts how often there was another one before.
        one.as_object_mut().ok_or("a snapshot is an object")?.remove("generation");
    }
    Ok(both)
}

impl Beside {
    fn start(cluster: &Cluster) -> Result<Self, Failed> {
        let folder = std::env::temp_dir().join(format!("ambit-sources-{}", std::process::id()));
        let [objects, state, authority] = ["objects", "state", "ca"].map(|name| folder.join(name));
        for part in [&objects, &state, &authority] {
            std::fs::create_dir_all(part)?;
        }
        cluster.export(&objects)?;
        let keys = Tokens::create()?.publish(&folder)?;
        // Given back at once; nobody else on this machine takes ports one after another.
        let admin = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        let program = Path::new(env!("CARGO_BIN_EXE_ambit-lab")).with_file_name("controller");
        let mut command = Command::new(program);
        command
            .env("AMBIT_SOURCE_DIRS", &objects)
            .env("AMBIT_STATE_DIR", &state)
            .env("AMBIT_CA_DIR", &authority);
        command.env("AMBIT_TOKEN_JWKS", keys).env("AMBIT_TOKEN_ISSUER", "https://nobody.example");
        command.env("AMBIT_LISTEN", "127.0.0.1:0").env("AMBIT_ADMIN", format!("127.0.0.1:{admin}"));
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn()?;
        Ok(Self { child, folder, admin })
    }

    fn snapshot(&self) -> Result<Value, Failed> {
        let ask = |path: &str| request("GET", ([127, 0, 0, 1], self.admin).into(), path, LIMIT);
        // Before that it has not read everything.
        let ready = ask(READY)?;
        check(ready.status == 200, || format!("{ready:?}"))?;
        let answer = ask(SNAPSHOT)?;
        check(answer.status == 200, || format!("{answer:?}"))?;
        Ok(serde_json::from_str(&answer.body)?)
    }
}

/// Where two values differ first, and how.
fn differ(at: &str, one: &Value, other: &Value) -> Option<String> {
    match (one, other) {
        (Value::Object(one), Value::Object(other)) => {
            let names = one.keys().chain(other.keys().filter(|name| !one.contains_key(*name)));
            names.into_iter().find_map(|name| {
                let value = |of: &serde_json::Map<String, Value>| of.get(name).cloned().unwrap_or_default();
                differ(&format!("{at}.{name}"), &value(one), &value(other))
            })
        }
        (Value::Array(one), Value::Array(other)) => {
            let [one, other] = [one, other].map(|list| Value::Object(by_name(list)));
            differ(at, &one, &other)
        }
        _ if one == other => None,
        _ => Some(format!("{at}: {one} on the cluster, {other} from the folder")),
    }
}

/// Items by their names, or by their places where they have none.
fn by_name(list: &[Value]) -> serde_json::Map<String, Value> {
    let named = list.iter().enumerate().map(|(place, item)| {
        let name = item["name"].as_str().map_or_else(|| place.to_string(), str::to_owned);
        (name, item.clone())
    });
    named.collect()
}
