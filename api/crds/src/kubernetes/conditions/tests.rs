//! What has to be written, as tables.

use super::*;
use crate::status::GatewayStatus;

fn condition(kind: &str, status: ConditionStatus, message: &str) -> Condition {
    Condition {
        kind: kind.to_owned(),
        status,
        reason: "Reason".to_owned(),
        message: message.to_owned(),
        observed_generation: 0,
    }
}

fn face(kind: Kind, status: &Value) -> Face {
    Face { status: Held::new(kind, status), ..Face::default() }
}

#[test]
fn conditions_of_kubernetes_itself_are_not_ours() {
    let status = json!({ "conditions": [
        { "type": "Ready", "status": "True" },
        { "type": "PodScheduled", "status": "True" },
        { "type": "istio.io/WaypointBound", "status": "True" },
        { "type": "Enforced", "status": "False" },
    ]});
    let types: Vec<Value> =
        Held::new(Kind::Pod, &status).conditions.iter().map(|one| one["type"].clone()).collect();
    assert_eq!(types, ["istio.io/WaypointBound", "Enforced"]);
}

#[test]
fn what_is_said_already_is_not_written() {
    let said = json!({ "conditions": [{
        "type": "Enforced", "status": "True", "reason": "Reason", "message": "m", "lastTransitionTime": "then",
    }]});
    let held = face(Kind::Service, &said);
    let wanted = condition("Enforced", ConditionStatus::True, "m");
    assert_eq!(plan(&held, std::slice::from_ref(&wanted), &Details::None, "now"), None);
    let changes = [
        condition("Enforced", ConditionStatus::False, "m"),
        condition("Enforced", ConditionStatus::True, "other"),
        Condition { reason: "Other".to_owned(), ..wanted.clone() },
        Condition { observed_generation: 3, ..wanted.clone() },
        condition("ZtunnelAccepted", ConditionStatus::True, "m"),
    ];
    for change in changes {
        let Some(Write::Status(written)) = plan(&held, std::slice::from_ref(&change), &Details::None, "now")
        else {
            panic!("{change:?} is not written")
        };
        let since =
            if change.kind == "Enforced" && change.status == ConditionStatus::True { "then" } else { "now" };
        assert_eq!(written["conditions"][0]["lastTransitionTime"], since, "{change:?}");
    }
    assert_eq!(
        plan(&held, &[], &Details::None, "now"),
        Some(Write::Status(json!({ "conditions": [] }))),
        "what is no longer said goes"
    );
    assert_eq!(plan(&Face::default(), &[], &Details::None, "now"), None);
}

#[test]
fn a_message_is_no_longer_than_kubernetes_takes() {
    let long = condition("Enforced", ConditionStatus::True, &"ä".repeat(MAX_MESSAGE));
    let Some(Write::Status(written)) =
        plan(&Face::default(), std::slice::from_ref(&long), &Details::None, "now")
    else {
        panic!("it is written")
    };
    assert_eq!(written["conditions"][0]["message"].as_str().map(str::len), Some(MAX_MESSAGE));
    let held = face(Kind::Service, &written);
    assert_eq!(plan(&held, &[long], &Details::None, "later"), None, "and is found again");
}

/// A Gateway that is reached at a name and an address, with one listener.
fn reached(attached: u32, status: ConditionStatus) -> Details {
    let listener = ListenerStatus {
        name: "http".to_owned(),
        kinds: vec![Kind::HttpRoute],
        attached,
        conditions: vec![condition("Programmed", status, "m")],
    };
    let addresses = vec![Address::Hostname("gw.shop.svc".to_owned()), Address::Ip([10, 0, 0, 7].into())];
    Details::Gateway(GatewayStatus { addresses, listeners: vec![listener] })
}

#[test]
fn a_gateway_says_where_it_is_reached_and_what_is_attached() {
    let accepted = [condition("Accepted", ConditionStatus::True, "m")];
    let look = |face: &Face, details| plan(face, &accepted, &details, "now");
    let Some(Write::Status(first)) = look(&Face::default(), reached(1, ConditionStatus::False)) else {
        panic!("nothing is written")
    };
    assert_eq!(first["addresses"][1], json!({ "type": "IPAddress", "value": "10.0.0.7" }));
    let listener = &first["listeners"][0];
    assert_eq!(
        (&listener["attachedRoutes"], &listener["supportedKinds"][0]["kind"]),
        (&json!(1), &json!("HTTPRoute"))
    );
    let held = face(Kind::Gateway, &first);
    assert_eq!(look(&held, reached(1, ConditionStatus::False)), None, "it is said already");
    assert!(look(&held, reached(2, ConditionStatus::False)).is_some());
    assert!(
        look(&held, Details::Gateway(GatewayStatus::default())).is_some(),
        "an address that went is taken back"
    );
    // The time of a listener's condition is that of its last change.
    let mut old = first.clone();
    old["listeners"][0]["conditions"][0]["lastTransitionTime"] = "then".into();
    let since = |details| match look(&face(Kind::Gateway, &old), details) {
        Some(Write::Status(status)) => status["listeners"][0]["conditions"][0]["lastTransitionTime"].clone(),
        other => panic!("{other:?}"),
    };
    assert_eq!(since(reached(2, ConditionStatus::False)), "then");
    assert_eq!(since(reached(2, ConditionStatus::True)), "now");
}

#[test]
fn each_parent_of_a_route_is_told_what_is_said_of_it() {
    let parents = vec![json!({ "name": "a" }), json!({ "name": "theirs" }), json!({ "name": "b" })];
    let face = Face { parents: parents.clone(), ..Face::default() };
    let over_all = [condition("Accepted", ConditionStatus::False, "over all")];
    let said = |text: &str| vec![condition("Accepted", ConditionStatus::True, text)];
    let write =
        |details: &Details| plan_route(&face, (&over_all, details), "now", |one| one["name"] != "theirs");
    let told = |write: Option<Write>| match write {
        Some(Write::Parents(parents)) => {
            let all = parents.as_array().unwrap().iter();
            all.map(|one| (one["parentRef"]["name"].clone(), one["conditions"][0]["message"].clone()))
                .collect()
        }
        other => panic!("{other:?}"),
    };
    let each: Vec<(Value, Value)> =
        told(write(&Details::Parents(vec![said("at a"), said("-"), said("at b")])));
    assert_eq!(each, [("a".into(), "at a".into()), ("b".into(), "at b".into())]);
    let alike: Vec<(Value, Value)> = told(write(&Details::None));
    assert_eq!(alike, [("a".into(), "over all".into()), ("b".into(), "over all".into())]);
    assert_eq!(
        write(&Details::Parents(vec![said("at a")])),
        None,
        "it is about another version of the route"
    );
}
