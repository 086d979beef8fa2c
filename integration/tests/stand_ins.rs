//! What the tests of HTTP build on: the echo server says, does and counts what it is asked, and the generators count
//! what they are told, over every protocol; without a mesh, so that any fault is theirs.

mod support;

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use ambit_lab::load::{Connections, Load, Outcome, Protocol};
use ambit_lab::stream::Call;
use ambit_lab::{Lab, LabOptions, PodHandle};
use libtest_mimic::{Arguments, Failed, Trial};
use serde_json::Value;
use support::{Check, check, output};

const SHOP: &str = "
kind: Deployment
metadata: {name: echo, namespace: shop}
spec:
  template:
    metadata: {labels: {app: echo, version: v7}}
    spec: {containers: [{name: c, image: ambit/echo, args: [--port=8080, --banner=3306]}]}
---
kind: Service
metadata: {name: echo, namespace: shop}
spec: {selector: {app: echo}, ports: [{port: 80, targetPort: 8080}]}
---
kind: Pod
metadata: {name: caller, namespace: shop}
spec:
  containers:
  - name: c
    image: ambit/echo
    args:
    - --port=8080
    - --at-once=4
    - --carry=x-count-key
    - --call=http://echo/first
    - --call=/order=5*http://echo.shop/a,http://echo.shop/b?delay=20
    - --call=/bad=http://echo/status/503
---
kind: Pod
metadata: {name: text, namespace: shop, labels: {version: v8}}
spec: {containers: [{name: c, image: 'hashicorp/http-echo:1.0', args: ['-text=hello']}]}
---
kind: Pod
metadata: {name: client, namespace: shop}
spec: {containers: [{name: c, image: curlimages/curl, command: [sleep, infinity]}]}
";
/// Longest time until streams have got going.
const PATIENCE: Duration = Duration::from_secs(10);
const PAUSE: Duration = Duration::from_millis(1);

struct Shop {
    lab: Lab,
    client: PodHandle,
    echo: SocketAddr,
}

fn main() -> std::process::ExitCode {
    ambit_lab::sandbox::enter();
    let trial = |name: &'static str, run: fn(&Shop) -> Check| Trial::test(name, move || on_shop(run));
    let trials = vec![
        trial("the_echo_says_what_it_was_asked", says),
        trial("answers_are_as_asked_for", does),
        trial("failures_run_out_and_everything_is_counted", counts),
        trial("load_over_every_protocol", loads),
        trial("an_echo_calls_others_before_it_answers", calls),
        trial("streams_over_http", streams),
        trial("a_server_that_speaks_first", banner),
    ];
    libtest_mimic::run(&Arguments::from_args(), trials).exit_code()
}

fn on_shop(trial: fn(&Shop) -> Check) -> Result<(), Failed> {
    let lab = Lab::up(support::named(LabOptions::inline(SHOP).without_mesh()))?;
    check(lab.faults().is_empty(), || format!("{:?}", lab.faults()))?;
    let (client, echo) = (lab.pod("shop/client")?, lab.pod("shop/echo")?);
    trial(&Shop { lab, client, echo: (echo.address.v4, 8080).into() })
}

impl Shop {
    fn curl(&self, words: &[&str], path: &str) -> Result<String, Failed> {
        let url = format!("http://{}{path}", self.echo);
        output(&self.lab, &self.client, &[&["curl", "-sS", "-m", "5"], words, &[&url]].concat())
    }

    fn load(&self, change: impl FnOnce(&mut Load)) -> Result<Outcome, Failed> {
        let mut load = Load::new(self.echo);
        (load.count, load.width) = (40, 4);
        change(&mut load);
        Ok(self.lab.in_pod(&self.client, move || load.run())?)
    }

    fn counters(&self) -> Result<Value, Failed> {
        Ok(serde_json::from_str(&self.curl(&[], "/counters")?)?)
    }
}

fn says(shop: &Shop) -> Check {
    for (version, proto) in [("--http1.1", "HTTP/1.1"), ("--http2-prior-knowledge", "HTTP/2.0")] {
        let words = [version, "-H", "host: web.example:81", "-H", "x-one: 1", "-d", "abc"];
        let told: Value = serde_json::from_str(&shop.curl(&words, "/a/b?c=d")?)?;
        let pod = shop.lab.pod("shop/echo")?;
        let ip = pod.address.v4.to_string();
        let expected = [
            ("method", "POST"),
            ("path", "/a/b?c=d"),
            ("proto", proto),
            ("pod", &pod.name),
            ("namespace", "shop"),
            ("ip", &ip),
            ("version", "v7"),
            ("bodySha256", "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"),
        ];
        for (field, value) in expected {
            let have = told[field].as_str().unwrap_or_default();
            check(have.ends_with(value), || format!("{field} {value} with {version}: {told:#}"))?;
        }
        let right =
            told["host"] == "web.example:81" && told["bodyBytes"] == 3 && told["headers"]["x-one"][0] == "1";
        check(right, || format!("{told:#}"))?;
    }
    Ok(())
}

fn does(shop: &Shop) -> Check {
    let head = shop.curl(&["-i"], "/?status=418&header=x-a:b&trailers=end&delay=20")?;
    let lower = head.to_lowercase();
    let parts = ["418", "x-a: b", "trailer: x-trailer", "x-app-version: v7"];
    check(parts.iter().all(|part| lower.contains(part)), || head.clone())?;
    let bare = shop.curl(&["-w", "%{http_code}"], "/status/204")?;
    check(bare == "204", || bare)?;
    let sized = shop.curl(&[], "/bytes/70000")?;
    check(sized.len() == 70_000, || sized.len().to_string())?;
    let back = shop.curl(&["-d", "there and back"], "/echo")?;
    check(back == "there and back", || back)?;
    for version in ["--http1.1", "--http2-prior-knowledge"] {
        for place in ["head", "body"] {
            let url = format!("http://{}/?reset={place}", shop.echo);
            let ended = shop.lab.exec(&shop.client, &["curl", "-sS", "-m", "5", version, &url])?;
            check(matches!(ended.status.code(), Some(18 | 52 | 56 | 92)), || {
                format!("{place} {version}: {ended:?}")
            })?;
        }
    }
    Ok(())
}

fn counts(shop: &Shop) -> Check {
    let keyed = [
        "-o",
        "/dev/null",
        "-w",
        "%{http_code}",
        "-H",
        "x-fail-first: 2",
        "-H",
        "x-request-id: r1",
        "-H",
        "x-count-key: k",
    ];
    let codes: Vec<_> = (0..3).map(|_| shop.curl(&keyed, "/")).collect::<Result<_, _>>()?;
    check(codes == ["503", "503", "200"], || format!("{codes:?}"))?;
    shop.curl(&["-H", "host: echo.shop-shadow:80"], "/mirrored")?;
    let told = shop.counters()?;
    check(told["requests"] == 4 && told["mirrors"] == 1 && told["open"] == 0, || told.to_string())?;
    check(told["keys"]["k"]["requests"] == 3 && told["keys"]["/mirrored"]["mirrors"] == 1, || {
        told.to_string()
    })?;
    check(told["statuses"]["503"] == 2, || told.to_string())?;
    shop.curl(&[], "/counters/reset")?;
    let told = shop.counters()?;
    check(told["requests"] == 0, || told.to_string())
}

fn loads(shop: &Shop) -> Check {
    for protocol in [Protocol::Http1, Protocol::H2c, Protocol::Grpc] {
        for connections in [Connections::Kept, Connections::OnePerRequest] {
            let outcome = shop.load(|load| {
                (load.protocol, load.connections) = (protocol, connections);
                (load.method, load.body) = ("PUT".parse().expect("a method"), "message".into());
            })?;
            check(outcome.good == 40 && outcome.versions["v7"] == 40, || {
                format!("{protocol:?}: {outcome:?}")
            })?;
        }
        let failing = shop.load(|load| {
            load.protocol = protocol;
            load.headers.insert("x-fail-first", "1".parse().expect("a value"));
            load.headers.insert("x-fail-key", format!("{protocol:?}-{{n}}").parse().expect("a value"));
        })?;
        let status = if protocol == Protocol::Grpc { "grpc 14" } else { "503" };
        check(failing.good == 0 && failing.statuses.get(status) == Some(&40), || format!("{failing:?}"))?;
    }
    let wrong = shop.load(|load| load.expect = "nowhere to be found".to_owned())?;
    check(wrong.failed.get("wrong body") == Some(&40), || format!("{wrong:?}"))?;
    let broken = shop.load(|load| load.path = "/?reset=body".to_owned())?;
    check(broken.good == 0 && broken.failures() == 40, || format!("{broken:?}"))?;
    let text = shop.lab.pod("shop/text")?;
    let outcome = shop.load(|load| load.to = (text.address.v4, 5678).into())?;
    check(outcome.versions.get("v8") == Some(&40), || format!("{outcome:?}"))
}

fn calls(shop: &Shop) -> Check {
    let caller = SocketAddr::from((shop.lab.pod("shop/caller")?.address.v4, 8080));
    let ask = |path: &str, words: &[&str]| -> Result<(String, Value), Failed> {
        let url = format!("http://{caller}{path}");
        let words = [&["curl", "-sS", "-m", "5", "-w", "\n%{http_code}"], words, &[&url]].concat();
        let said = output(&shop.lab, &shop.client, &words)?;
        let (told, status) = said.rsplit_once('\n').ok_or("no status")?;
        Ok((status.to_owned(), serde_json::from_str(told)?))
    };
    let (status, told) = ask("/order/7", &[])?;
    check(status == "200" && told["calls"]["made"] == 11 && told["calls"]["good"] == 11, || {
        told.to_string()
    })?;
    let counted = shop.counters()?;
    let of = |key: &str| counted["keys"][key]["requests"].as_u64();
    check([of("/first"), of("/a"), of("/b")] == [Some(1), Some(5), Some(5)], || counted.to_string())?;
    // Five calls of 20 ms, at most four at once among ten.
    check(counted["most_open"].as_u64().is_some_and(|open| (2..=4).contains(&open)), || counted.to_string())?;
    let (status, told) = ask("/other", &[])?;
    check(status == "200" && told["calls"]["made"] == 1, || told.to_string())?;
    let (status, told) = ask("/bad", &["-H", "x-count-key: handed on"])?;
    let failed = told["calls"]["good"] == 1 && told["calls"]["failed"]["echo: status 503"] == 1;
    check(status == "502" && failed, || told.to_string())?;
    let counted = shop.counters()?;
    check(counted["keys"]["handed on"]["requests"] == 2, || counted.to_string())
}

fn streams(shop: &Shop) -> Check {
    let to = shop.echo;
    let call = shop.lab.in_pod(&shop.client, move || Call::new(to, PAUSE).grpc())?;
    let socket = shop.lab.in_pod(&shop.client, move || Call::new(to, PAUSE).websocket())?;
    let end = Instant::now() + PATIENCE;
    while [&call, &socket].iter().any(|stream| stream.rounds() <= 10 && !stream.broken()) {
        check(Instant::now() < end, || "the streams do not get going".to_owned())?;
        std::thread::sleep(PAUSE);
    }
    for (name, stream) in [("gRPC", call), ("WebSocket", socket)] {
        let rounds = stream.finish().map_err(|error| format!("{name}: {error}"))?;
        check(rounds > 10, || format!("{name}: {rounds} numbers"))?;
    }
    let mut refused = Call::new(to, PAUSE);
    refused.headers.insert("x-grpc-status", "7".parse()?);
    let refused = shop.lab.in_pod(&shop.client, move || refused.grpc());
    let error = refused.err().ok_or("a refused call was opened")?.to_string();
    check(error.contains("grpc-status") && error.contains('7'), || error)?;
    let mut refused = Call::new(to, PAUSE);
    refused.headers.insert("x-fail-first", "1".parse()?);
    let refused = shop.lab.in_pod(&shop.client, move || refused.websocket());
    check(refused.is_err_and(|error| error.to_string().contains("503")), || {
        "a refused socket was opened".to_owned()
    })
}

fn banner(shop: &Shop) -> Check {
    let to = SocketAddr::new(shop.echo.ip(), 3306);
    let said = shop.lab.in_pod(&shop.client, move || -> std::io::Result<String> {
        let mut stream = TcpStream::connect(to)?;
        stream.set_read_timeout(Some(Duration::from_secs(5)))?;
        let mut greeting = [0; 11];
        stream.read_exact(&mut greeting)?;
        stream.write_all(b"then back")?;
        stream.shutdown(std::net::Shutdown::Write)?;
        let mut rest = String::new();
        stream.read_to_string(&mut rest)?;
        Ok(String::from_utf8_lossy(&greeting).into_owned() + &rest)
    })?;
    check(said.starts_with("hello from echo-") && said.ends_with("\nthen back"), || said)
}
