//! What has to be written, as tables.

use super::*;

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
        Held::new(Kind::Pod, &status).conditions().iter().map(|one| one["type"].clone()).collect();
    assert_eq!(types, ["istio.io/WaypointBound", "Enforced"]);
}

#[test]
fn what_is_said_already_is_not_written() {
    let said = json!({ "conditions": [{
        "type": "Enforced", "status": "True", "reason": "Reason", "message": "m", "lastTransitionTime": "then",
    }]});
    let held = face(Kind::Service, &said);
    let wanted = condition("Enforced", ConditionStatus::True, "m");
    assert_eq!(plan(&held, std::slice::from_ref(&wanted), "now"), None);
    let changes = [
        condition("Enforced", ConditionStatus::False, "m"),
        condition("Enforced", ConditionStatus::True, "other"),
        Condition { reason: "Other".to_owned(), ..wanted.clone() },
        Condition { observed_generation: 3, ..wanted.clone() },
        condition("ZtunnelAccepted", ConditionStatus::True, "m"),
    ];
    for change in changes {
        let Some(Write::Conditions(written)) = plan(&held, std::slice::from_ref(&change), "now") else {
            panic!("{change:?} is not written")
        };
        let since =
            if change.kind == "Enforced" && change.status == ConditionStatus::True { "then" } else { "now" };
        assert_eq!(written[0]["lastTransitionTime"], since, "{change:?}");
    }
    assert_eq!(plan(&held, &[], "now"), Some(Write::Conditions(json!([]))), "what is no longer said goes");
    assert_eq!(plan(&Face::default(), &[], "now"), None);
}

#[test]
fn a_message_is_no_longer_than_kubernetes_takes() {
    let long = condition("Enforced", ConditionStatus::True, &"ä".repeat(MAX_MESSAGE));
    let Some(Write::Conditions(written)) = plan(&Face::default(), std::slice::from_ref(&long), "now") else {
        panic!("it is written")
    };
    assert_eq!(written[0]["message"].as_str().map(str::len), Some(MAX_MESSAGE));
    let held = face(Kind::Service, &json!({ "conditions": written }));
    assert_eq!(plan(&held, &[long], "later"), None, "and is found again");
}
