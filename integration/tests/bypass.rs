//! Ways round a policy that somebody might try, each refused, each with a control that the same way works where it may.

#[path = "support/callers.rs"]
#[expect(dead_code, reason = "every test file takes what it needs")]
mod callers;
#[path = "support/hbone.rs"]
#[expect(dead_code, reason = "every test file takes what it needs")]
mod hbone;
#[expect(dead_code, reason = "every test file takes what it needs")]
mod support;

use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, OnceLock};

use ambit_lab::PodHandle;
use ambit_lab::settings::left_out;
use callers::{Room, SECOND};
use hbone::{Met, Papers, Signer, Try, plain};
use http::Method;
use libtest_mimic::{Arguments, Failed, Trial};
use support::{Check, check};

const KIND: &str = "AuthorizationPolicy";
const ALICE: &str = "spiffe://cluster.local/ns/shop/sa/alice";
const BOB: &str = "spiffe://cluster.local/ns/shop/sa/bob";
const WEB: &str = "selector: {matchLabels: {app: web}}";

fn main() -> std::process::ExitCode {
    ambit_lab::sandbox::enter();
    let mut arguments = Arguments::from_args();
    // One lab for all.
    arguments.test_threads = Some(1);
    let room = Arc::new(OnceLock::new());
    let trial = |name: &str, run: fn(&Room) -> Check| {
        let room = Arc::clone(&room);
        Trial::test(name, move || {
            let up = room.get_or_init(|| Room::up().map_err(|error| format!("{error:?}")));
            let room: &Room = up.as_ref()?;
            room.clear()?;
            run(room)
        })
    };
    let trials = vec![
        trial("authorities_lead_nowhere_else", authorities),
        trial("names_do_not_change_the_judgement", names),
        trial("headers_prove_nothing", headers),
        trial("only_connect_over_http_2_is_spoken", methods),
        trial("an_open_tunnel_is_judged_again", reused),
        trial("the_proxy_s_ports_take_nothing_else", ports),
        trial("marks_and_probe_addresses_open_nothing", marks),
        trial("packets_before_the_first_open_nothing", packets),
        trial("direct_addresses_are_judged_alike", direct),
    ];
    libtest_mimic::run(&arguments, trials).exit_code()
}

/// What somebody meets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Expected {
    Application,
    Status(u16),
    /// The connection ends.
    Closed,
    /// Anything but the application, silence too.
    Nothing,
}

impl Expected {
    fn is(self, met: &Met) -> bool {
        match (self, met) {
            (Expected::Application, Met::Application(text)) => text.starts_with("HTTP/1.1 200"),
            (Expected::Status(expected), Met::Status(found)) => expected == *found,
            (Expected::Closed, Met::Closed(_)) => true,
            (Expected::Nothing, met) => !matches!(met, Met::Application(_)),
            _ => false,
        }
    }
}

/// What is ours alone: how other spellings of a pod's own address are taken, and the numbers of refusals.
const SPELLINGS: &str =
    "a pod's own IPv4 address in IPv6's clothes is its own address: Istio's refuses it with 400";

/// Says what somebody met and whether that is right.
fn meets(what: &str, met: &Met, expected: Expected) -> Check {
    let short = match met {
        Met::Application(text) => text.lines().next().unwrap_or_default().to_owned(),
        other => format!("{other:?}"),
    };
    println!("{what}: {short}");
    check(expected.is(met), || format!("{what}: {met:?} instead of {expected:?}"))
}

fn alice(room: &Room) -> Result<Papers, Failed> {
    Signer::of(&room.lab)?.sign(&[ALICE], (-60, 3600))
}

fn authorities(room: &Room) -> Check {
    let (papers, pod) = (alice(room)?, room.caller('d')?);
    let (web, v6) = (room.web.address.v4, room.web.address.v6);
    let hello = room.lab.pod("shop/hello")?;
    let foreign = left_out("authorities_lead_nowhere_else", SPELLINGS);
    let mapped = |ours| if foreign { Expected::Status(400) } else { ours };
    let table = [
        (format!("{web}:8080"), Expected::Application),
        // Another pod, of this node and the other; a Service; the node; the controller.
        (format!("{}:5678", hello.address.v4), Expected::Status(400)),
        (format!("[{}]:5678", hello.address.v6), Expected::Status(400)),
        (format!("{}:8080", room.caller('b')?.address.v4), Expected::Status(400)),
        (format!("{}:80", room.lab.service("shop/hello")?.ok_or("no address")?.v4), Expected::Status(400)),
        (format!("{}:15000", room.web.node.address().v4), Expected::Status(400)),
        (format!("{}:15012", ambit_lab::address::CONTROL.v4), Expected::Status(400)),
        // The pod's own other addresses.
        ("127.0.0.1:8080".to_owned(), Expected::Status(400)),
        ("127.0.0.6:8080".to_owned(), Expected::Status(400)),
        ("[::1]:8080".to_owned(), Expected::Status(400)),
        ("0.0.0.0:8080".to_owned(), Expected::Status(400)),
        ("[::]:8080".to_owned(), Expected::Status(400)),
        ("[::ffff:127.0.0.1]:8080".to_owned(), Expected::Status(400)),
        ("169.254.169.254:80".to_owned(), Expected::Status(400)),
        (format!("[{v6}]:8080"), Expected::Status(400)),
        // Its own address in other words is its own address.
        (format!("[::ffff:{web}]:8080"), mapped(Expected::Application)),
        // The proxy's ports, and ports nobody has.
        (format!("{web}:15001"), Expected::Status(503)),
        (format!("{web}:15006"), Expected::Status(503)),
        (format!("{web}:15008"), Expected::Status(503)),
        (format!("[::ffff:{web}]:15008"), mapped(Expected::Status(503))),
        (format!("{web}:15000"), Expected::Status(503)),
        (format!("{web}:15020"), Expected::Status(503)),
        (format!("{web}:15021"), Expected::Status(503)),
        (format!("{web}:0"), Expected::Nothing),
        (format!("{web}:65536"), Expected::Nothing),
        (format!("{web}:-1"), Expected::Nothing),
        (format!("{web}"), Expected::Nothing),
        (format!("alice@{web}:8080"), Expected::Nothing),
        (format!("0{web}:8080"), Expected::Nothing),
        (format!("{}:8080", u32::from(web)), Expected::Nothing),
        ("localhost:8080".to_owned(), Expected::Status(503)),
        (format!("[{v6}%eth0]:8080"), Expected::Nothing),
    ];
    for (authority, expected) in table {
        let met = Try::to(&room.web, 8080).authority(&authority).from(&room.lab, pod, &papers);
        meets(&format!("CONNECT {authority}"), &met, expected)?;
    }
    Ok(())
}

fn names(room: &Room) -> Check {
    let (papers, pod) = (alice(room)?, room.caller('d')?);
    let ask = |authority: &str| Try::to(&room.web, 8080).authority(authority).from(&room.lab, pod, &papers);
    let web = room.web.address.v4;
    let mut own = vec!["web.shop.svc.cluster.local:80".to_owned(), format!("{web}:8080")];
    if !left_out("names_do_not_change_the_judgement", SPELLINGS) {
        own.push(format!("[::ffff:{web}]:8080"));
    }
    for authority in &own {
        meets(authority, &ask(authority), Expected::Application)?;
    }
    // Names of Services that this pod does not serve, or ports they do not have.
    for authority in [
        "hello.shop.svc.cluster.local:80",
        "web.shop.svc.cluster.local:8081",
        "web.shop.svc.cluster.local:15008",
        "kubernetes.default.svc.cluster.local:443",
        "web.other.svc.cluster.local:80",
        "example.com:80",
    ] {
        meets(authority, &ask(authority), Expected::Status(503))?;
    }
    // However the port is spelt, the policy for it holds; and it holds for that port alone.
    for spec in [
        "action: DENY, rules: [{to: [{operation: {ports: ['8080']}}]}]",
        "action: ALLOW, rules: [{to: [{operation: {ports: ['8081']}}]}]",
        "action: DENY, rules: [{to: [{operation: {ports: ['80']}}]}]",
    ] {
        room.put(KIND, "shop/port", &format!("{{{WEB}, {spec}}}"))?;
        room.comes_to("a23 b23 c23 d23 e23", SECOND)?;
        for authority in &own {
            meets(&format!("{authority} under {spec}"), &ask(authority), Expected::Status(401))?;
        }
        meets("the other port", &ask(&format!("{web}:8081")), Expected::Application)?;
        room.clear()?;
    }
    Ok(())
}

/// Alice tells everything about being bob, and is alice.
fn headers(room: &Room) -> Check {
    let (papers, pod) = (alice(room)?, room.caller('a')?);
    let bob = room.caller('b')?.address.v4.to_string();
    let lies: Vec<(&'static str, String)> = vec![
        ("forwarded", format!("for=\"{bob}\";host=web.shop.svc.cluster.local")),
        ("x-forwarded-for", bob.clone()),
        ("x-real-ip", bob.clone()),
        ("x-envoy-original-dst-host", format!("{}:8081", room.web.address.v4)),
        ("baggage", "k8s.namespace.name=other,service.name=bob,k8s.pod.name=bob".to_owned()),
        ("x-forwarded-client-cert", format!("URI={BOB}")),
        ("x-istio-source", "bob".to_owned()),
        ("source-principal", BOB.to_owned()),
        ("authorization", "Bearer x".to_owned()),
        ("proxy-authorization", "Basic Ym9iOmJvYg==".to_owned()),
        ("host", "127.0.0.1:8081".to_owned()),
    ];
    let honest = Try::to(&room.web, 8080);
    let liar = lies.iter().fold(honest.clone(), |ask, (name, value)| ask.header(name, value.clone()));
    let says = |ask: &Try| ask.clone().from(&room.lab, pod, &papers);
    meets("without a policy", &says(&liar), Expected::Application)?;
    // (the policy, who gets there without tricks)
    for (spec, plainly) in [
        (
            "action: ALLOW, rules: [{from: [{source: {serviceAccounts: [shop/bob]}}]}]".to_owned(),
            "a3 b123 c3 d3 e3",
        ),
        ("action: ALLOW, rules: [{from: [{source: {ipBlocks: ['{bob}']}}]}]".to_owned(), "a3 b123 c3 d3 e3"),
        (
            "action: DENY, rules: [{from: [{source: {ipBlocks: ['{alice}']}}]}]".to_owned(),
            "a3 b123 c123 d123 e123",
        ),
        ("action: ALLOW, rules: [{to: [{operation: {ports: ['8081']}}]}]".to_owned(), "a23 b23 c23 d23 e23"),
    ] {
        room.put(KIND, "shop/lies", &format!("{{{WEB}, {spec}}}"))?;
        room.comes_to(plainly, SECOND)?;
        meets(&format!("honest under {spec}"), &says(&honest), Expected::Status(401))?;
        for (name, value) in &lies {
            meets(
                &format!("  {name}: {value}"),
                &says(&honest.clone().header(name, value.clone())),
                Expected::Nothing,
            )?;
        }
        meets("  all at once", &says(&liar), Expected::Nothing)?;
        room.clear()?;
    }
    meets("without a policy again", &says(&liar), Expected::Application)
}

fn methods(room: &Room) -> Check {
    let (papers, pod) = (alice(room)?, room.caller('d')?);
    for method in [Method::GET, Method::POST, Method::PUT, Method::OPTIONS] {
        let mut ask = Try::to(&room.web, 8080);
        ask.method = method.clone();
        meets(method.as_str(), &ask.from(&room.lab, pod, &papers), Expected::Status(400))?;
    }
    for alpn in [b"http/1.1".as_slice(), b"istio-peer-exchange"] {
        let mut ask = Try::to(&room.web, 8080);
        ask.alpn = alpn;
        meets(&String::from_utf8_lossy(alpn), &ask.from(&room.lab, pod, &papers), Expected::Closed)?;
    }
    meets("CONNECT", &Try::to(&room.web, 8080).from(&room.lab, pod, &papers), Expected::Application)
}

/// Streams of a tunnel that was open before the policy came are judged by the policy.
fn reused(room: &Room) -> Check {
    let papers = alice(room)?;
    let tunnel = Try::to(&room.web, 8080).keep(&room.lab, room.caller('d')?, &papers)?;
    meets("before", &tunnel.ask(), Expected::Application)?;
    room.put(
        KIND,
        "shop/later",
        &format!("{{{WEB}, action: DENY, rules: [{{from: [{{source: {{serviceAccounts: [alice]}}}}]}}]}}"),
    )?;
    room.comes_to("a3 b123 c123 d123 e123", SECOND)?;
    meets("under the policy, same tunnel", &tunnel.ask(), Expected::Status(401))?;
    room.clear()?;
    meets("afterwards, same tunnel", &tunnel.ask(), Expected::Application)
}

fn at(pod: &PodHandle, port: u16) -> SocketAddr {
    SocketAddr::new(IpAddr::V4(pod.address.v4), port)
}

/// Plain bytes at the proxy's own ports, from in and out of the mesh, over the wire and beside it.
fn ports(room: &Room) -> Check {
    let six = |port| SocketAddr::new(IpAddr::V6(room.web.address.v6), port);
    for letter in ['a', 'd', 'e'] {
        let pod = room.caller(letter)?;
        for marked in [false, true] {
            let says = |to| plain(&room.lab, pod, to, marked);
            for to in [15001, 15006, 15008].into_iter().flat_map(|port| [at(&room.web, port), six(port)]) {
                meets(
                    &format!("plain bytes from {letter} to {to}, marked: {marked}"),
                    &says(to),
                    Expected::Nothing,
                )?;
            }
            meets("  control", &says(at(&room.web, 8080)), Expected::Application)?;
            meets("  control", &says(six(8080)), Expected::Application)?;
        }
    }
    // Through the pod's own loopback nothing of the proxy is an open door either.
    let own = |port| SocketAddr::from(([127, 0, 0, 1], port));
    for port in [15001, 15006, 15008] {
        meets(
            &format!("web itself to {}", own(port)),
            &plain(&room.lab, &room.web, own(port), false),
            Expected::Nothing,
        )?;
        let pod = room.caller('a')?;
        meets(
            &format!("alice to her own {port}"),
            &plain(&room.lab, pod, own(port), false),
            Expected::Nothing,
        )?;
    }
    meets("  control", &plain(&room.lab, &room.web, own(8080), false), Expected::Application)
}

/// Whoever sets the proxy's mark, or takes the address of the kubelet's probes, still meets the policy of the other side.
fn marks(room: &Room) -> Check {
    let probe = SocketAddr::from(([169, 254, 7, 127], 0));
    let table = |expected: Expected| -> Check {
        for letter in ['d', 'e', 'a', 'c'] {
            let pod = room.caller(letter)?;
            for to in [at(&room.web, 8080), SocketAddr::new(IpAddr::V6(room.web.address.v6), 8080)] {
                meets(
                    &format!("{letter} with the mark to {to}"),
                    &plain(&room.lab, pod, to, true),
                    expected,
                )?;
            }
        }
        Ok(())
    };
    table(Expected::Application)?;
    room.put("PeerAuthentication", "shop/default", "{mtls: {mode: STRICT}}")?;
    room.comes_to("a123 b123 c123", SECOND)?;
    table(Expected::Nothing)?;
    for letter in ['d', 'e'] {
        let (pod, to) = (room.caller(letter)?, at(&room.web, 8080));
        let met = room.lab.in_pod(pod, move || hbone::from_address(probe, to));
        meets(&format!("{letter} as the kubelet's probe"), &met, Expected::Nothing)?;
    }
    room.clear()?;
    table(Expected::Application)
}

/// Packets that make connection tracking believe in a connection before there is one: the connection that follows from
/// the same port is redirected or refused all the same.
fn packets(room: &Room) -> Check {
    const ACK: u8 = 0x10;
    let table = |expected: Expected, first: u16| -> Check {
        for letter in ['d', 'e'] {
            for (index, flags) in
                [0, ACK, ACK | 0x08, ACK | 0x01, ACK | 0x02, ACK | 0x04, 0x29].into_iter().enumerate()
            {
                let (pod, to) = (room.caller(letter)?, at(&room.web, 8080));
                let from = at(pod, first + index as u16);
                let met = room.lab.in_pod(pod, move || {
                    hbone::packets(from, to, flags, 3).map(|()| hbone::from_address(from, to))
                })?;
                meets(&format!("{letter} after packets with flags {flags:#04x}"), &met, expected)?;
            }
        }
        Ok(())
    };
    table(Expected::Application, 20_000)?;
    room.put("PeerAuthentication", "shop/default", "{mtls: {mode: STRICT}}")?;
    room.comes_to("a123 b123 c123", SECOND)?;
    table(Expected::Nothing, 20_100)?;
    room.clear()?;
    table(Expected::Application, 20_200)
}

/// The Service's address, the pod's, IPv4 and IPv6, with and without a tunnel of one's own: one judgement.
fn direct(room: &Room) -> Check {
    let papers = alice(room)?;
    let service = room.lab.service("shop/web")?.ok_or("no address")?;
    let ways = |expected: [Expected; 2]| -> Check {
        let pod = room.caller('a')?;
        for to in [
            SocketAddr::new(IpAddr::V4(service.v4), 80),
            SocketAddr::new(IpAddr::V6(service.v6), 80),
            at(&room.web, 8080),
            SocketAddr::new(IpAddr::V6(room.web.address.v6), 8080),
        ] {
            meets(&format!("alice to {to}"), &plain(&room.lab, pod, to, false), expected[0])?;
        }
        for (what, nobody) in
            [("no certificate", Papers::none()), ("one's own signature", Papers::self_signed(ALICE)?)]
        {
            let met = Try::to(&room.web, 8080).from(&room.lab, room.caller('d')?, &nobody);
            meets(what, &met, Expected::Closed)?;
        }
        for from in ['a', 'd', 'e'] {
            let met = Try::to(&room.web, 8080).from(&room.lab, room.caller(from)?, &papers);
            meets(&format!("alice's certificate from {from}"), &met, expected[1])?;
            let v6 = room.web.address.v6;
            let mut six = Try::to(&room.web, 8080).authority(format!("[{v6}]:8080"));
            six.to = SocketAddr::new(IpAddr::V6(v6), 15008);
            meets(
                &format!("the same over IPv6 from {from}"),
                &six.from(&room.lab, room.caller(from)?, &papers),
                expected[1],
            )?;
        }
        Ok(())
    };
    ways([Expected::Application; 2])?;
    room.put(
        KIND,
        "shop/direct",
        &format!("{{{WEB}, action: DENY, rules: [{{from: [{{source: {{serviceAccounts: [alice]}}}}]}}]}}"),
    )?;
    room.comes_to("a3 b123 c123 d123 e123", SECOND)?;
    ways([Expected::Closed, Expected::Status(401)])?;
    room.clear()?;
    ways([Expected::Application; 2])
}
