//! Order, limits and times of requests.

use rand::SeedableRng;
use rand::rngs::StdRng;

use super::*;

fn identity(name: &str) -> Identity {
    format!("spiffe://cluster.local/ns/a/sa/{name}").parse().expect("an identity")
}

fn start() -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000)
}

fn rng() -> StdRng {
    StdRng::seed_from_u64(7)
}

#[test]
fn the_urgent_go_first_then_the_first_come() {
    let mut schedule = Schedule::default();
    for (name, priority) in [("a", Priority::Warmup), ("b", Priority::Warmup), ("c", Priority::RealTime)] {
        schedule.want(&identity(name), priority, start());
    }
    schedule.want(&identity("b"), Priority::RealTime, start());
    let order: Vec<_> = std::iter::from_fn(|| schedule.next(start())).collect();
    assert_eq!(order, ["b", "c", "a"].map(identity));
}

#[test]
fn at_most_eight_are_asked_for_at_once_and_none_twice() {
    let mut schedule = Schedule::default();
    for n in 0..20 {
        schedule.want(&identity(&n.to_string()), Priority::Warmup, start());
        schedule.want(&identity(&n.to_string()), Priority::RealTime, start());
    }
    let asked: Vec<_> = std::iter::from_fn(|| schedule.next(start())).collect();
    assert_eq!(asked.len(), CONCURRENT);
    assert_eq!(schedule.wake_at(), None);
    schedule.finished(&asked[0], Outcome::Failed, start(), &mut rng());
    let next = schedule.next(start()).expect("there is room again");
    assert!(!asked.contains(&next));
}

#[test]
fn renewal_comes_before_half_of_the_validity() {
    let mut schedule = Schedule::default();
    let hour = Duration::from_secs(3_600);
    schedule.want(&identity("a"), Priority::RealTime, start());
    assert!(schedule.next(start()).is_some());
    let outcome = Outcome::Issued { from: start(), until: start() + hour * 24 };
    let due = schedule.finished(&identity("a"), outcome, start(), &mut rng());
    assert!(due <= start() + hour * 12 && due >= start() + hour * 10, "{due:?}");
    assert_eq!(schedule.next(due - Duration::from_secs(1)), None);
    assert_eq!(schedule.next(due), Some(identity("a")));
}

#[test]
fn failures_wait_longer_and_longer_but_never_past_the_end_of_what_is_held() {
    let mut schedule = Schedule::default();
    let (mut now, mut rng, a) = (start(), rng(), identity("a"));
    schedule.want(&a, Priority::Warmup, now);
    for seconds in [1.0, 2.0, 4.0, 8.0] {
        assert!(schedule.next(now).is_some());
        let due = schedule.finished(&a, Outcome::Failed, now, &mut rng);
        let waited = due.duration_since(now).expect("later").as_secs_f64();
        assert!((seconds * 0.79..=seconds * 1.21).contains(&waited), "{waited} for {seconds}");
        schedule.want(&a, Priority::RealTime, now);
        assert_eq!(schedule.next(now), None, "impatience does not shorten the wait");
        now = due;
    }
    assert!(schedule.next(now).is_some());
    let until = now + Duration::from_secs(100);
    now = schedule.finished(&a, Outcome::Issued { from: now, until }, now, &mut rng);
    for _ in 0..20 {
        if now >= until {
            return;
        }
        assert!(schedule.next(now).is_some());
        now = schedule.finished(&a, Outcome::Failed, now, &mut rng);
        assert!(now <= until, "asked again at the latest when the old one ends");
    }
    panic!("never reached the end of validity");
}

#[test]
fn what_is_forgotten_is_not_asked_for_and_leaves_room() {
    let mut schedule = Schedule::default();
    schedule.want(&identity("a"), Priority::Warmup, start());
    schedule.forget(&identity("a"));
    assert_eq!((schedule.next(start()), schedule.wake_at()), (None, None));
    for n in 0..CONCURRENT {
        schedule.want(&identity(&n.to_string()), Priority::Warmup, start());
    }
    while let Some(asked) = schedule.next(start()) {
        schedule.forget(&asked);
    }
    schedule.want(&identity("b"), Priority::Warmup, start());
    assert_eq!(schedule.next(start()), Some(identity("b")));
}
