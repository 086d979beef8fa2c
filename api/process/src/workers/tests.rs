//! Workers: counts, placement, overload, isolation and the end.

use std::rc::Rc;

use super::*;

#[test]
fn counts_are_read_and_applied() {
    let cases = [
        ("auto", Count::Auto, 16, 4),
        ("auto", Count::Auto, 2, 2),
        ("0", Count::All, 16, 16),
        ("7", Count::Exactly(7), 2, 7),
        ("50%", Count::Percent(50), 16, 8),
        ("1%", Count::Percent(1), 16, 1),
        ("34%", Count::Percent(34), 3, 2),
        ("100%", Count::Percent(100), 3, 3),
        ("0", Count::All, 0, 1),
    ];
    for (text, count, cpus, workers) in cases {
        assert_eq!(text.parse(), Ok(count), "{text}");
        assert_eq!(count.to_string(), text);
        assert_eq!(count.of(cpus), workers, "{text} of {cpus}");
    }
    for text in ["", "-1", "x", "0%", "101%", "%", "1.5", "1025"] {
        assert_eq!(text.parse::<Count>(), Err(InvalidCount), "{text}");
    }
    assert!(Workers::count_from(Count::Auto) <= DEFAULT_CAP);
}

#[test]
fn jobs_run_on_their_own_named_thread_and_need_not_be_send() {
    let workers = Workers::start(2, "test").unwrap();
    let (sender, receiver) = std::sync::mpsc::channel();
    for worker in workers.iter() {
        let sender = sender.clone();
        let index = worker.index();
        let job = move || async move {
            let shared = Rc::new(index);
            let clone = Rc::clone(&shared);
            let inner = crate::spawn::spawn_local("inner", async move { *clone }).await.unwrap();
            sender.send((inner, std::thread::current().name().map(str::to_owned))).unwrap();
        };
        worker.run(job).unwrap();
    }
    let mut seen: Vec<_> = receiver.iter().take(2).collect();
    seen.sort();
    assert_eq!(seen, [(0, Some("test-0".to_owned())), (1, Some("test-1".to_owned()))]);
    workers.stop();
}

#[test]
fn a_full_queue_gives_the_job_back() {
    let workers = Workers::start(1, "full").unwrap();
    let worker = workers.get(0).unwrap().clone();
    let (release, blocked) = std::sync::mpsc::channel::<()>();
    let (entered, inside) = std::sync::mpsc::channel();
    // Holds the thread itself, so that nothing is taken from the queue any more.
    let block = move || async move {
        entered.send(()).unwrap();
        blocked.recv().unwrap();
    };
    worker.run(block).unwrap();
    inside.recv().unwrap();
    let mut queued = 0;
    let token = Arc::new(());
    let overloaded = loop {
        let token = Arc::clone(&token);
        match worker.run(move || async move { drop(token) }) {
            Ok(()) => queued += 1,
            Err(overloaded) => break overloaded,
        }
    };
    assert_eq!(queued, QUEUE);
    assert_eq!(Arc::strong_count(&token), QUEUE + 2);
    drop(overloaded.job);
    assert_eq!(Arc::strong_count(&token), QUEUE + 1);
    release.send(()).unwrap();
    let (done, finished) = std::sync::mpsc::channel();
    let last = move || async move { done.send(()).unwrap() };
    let wait = Builder::new_current_thread().build().unwrap();
    wait.block_on(worker.run_when_free(last)).unwrap();
    finished.recv().unwrap();
    assert_eq!(Arc::strong_count(&token), 1);
    workers.stop();
    assert!(worker.run(|| async {}).is_err(), "an ended worker takes nothing");
}

#[test]
fn load_is_counted_while_guards_live() {
    let workers = Workers::start(2, "load").unwrap();
    let first = workers.least_loaded().unwrap().clone();
    assert_eq!(first.index(), 0);
    let busy = first.busy();
    assert_eq!((first.open(), first.load().load(Ordering::Relaxed)), (1, 1));
    assert_eq!(workers.least_loaded().unwrap().index(), 1);
    drop(busy);
    assert_eq!(workers.least_loaded().unwrap().index(), 0);
    assert_eq!((workers.len(), workers.is_empty()), (2, false));
}

#[test]
fn a_panic_ends_its_job_only() {
    let workers = Workers::start(1, "panic").unwrap();
    let worker = workers.get(0).unwrap();
    worker.run(|| async { panic!("in the future, on purpose") }).unwrap();
    let in_closure = || -> std::future::Ready<()> { panic!("in the closure, on purpose") };
    worker.run(in_closure).unwrap();
    let (sender, receiver) = std::sync::mpsc::channel();
    worker.run(move || async move { sender.send(1).unwrap() }).unwrap();
    assert_eq!(receiver.recv(), Ok(1));
}

#[test]
fn stopping_drops_what_runs() {
    let workers = Workers::start(1, "stop").unwrap();
    let (sender, receiver) = std::sync::mpsc::channel::<()>();
    let job = move || async move {
        let _sender = sender;
        std::future::pending::<()>().await;
    };
    workers.get(0).unwrap().run(job).unwrap();
    workers.stop();
    assert!(receiver.try_recv().is_err_and(|error| error == std::sync::mpsc::TryRecvError::Disconnected));
}
