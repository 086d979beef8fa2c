//! The thread that writes log lines: a bounded queue before it, so that a slow reader of our output costs
//! lines (which are counted), never time of a worker.

use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::Duration;

use prometheus_client::metrics::counter::Counter;

/// Lines that may wait.
const QUEUE: usize = 8192;

/// Bytes that may wait.
const QUEUE_BYTES: usize = 4 << 20;

/// How long the writer rests after a burst: while it rests, a line costs no system call to wake it.
const REST: Duration = Duration::from_millis(5);

/// How long the end of the program waits for the last lines.
const FLUSH: Duration = Duration::from_secs(1);

enum Message {
    Line(String),
    Flush(SyncSender<()>),
}

/// A handle on the writing thread, which ends with the last one.
#[derive(Debug, Clone)]
pub(super) struct Writer {
    queue: SyncSender<Message>,
    waiting: Arc<AtomicUsize>,
    dropped: Counter,
}

impl Writer {
    pub(super) fn start(sink: Box<dyn Write + Send>) -> Self {
        let (queue, lines) = sync_channel(QUEUE);
        let writer = Self { queue, waiting: Arc::default(), dropped: Counter::default() };
        let (waiting, dropped) = (Arc::clone(&writer.waiting), writer.dropped.clone());
        let thread = std::thread::Builder::new().name("log".to_owned());
        // Without the thread every line counts as dropped, which is all that can be done about it.
        if let Err(error) = thread.spawn(move || write(sink, &lines, &waiting, &dropped)) {
            eprintln!("cannot start the log writer: {error}");
        }
        writer
    }

    /// Queues a line (with its line feed), or drops and counts it.
    pub(super) fn line(&self, line: String) {
        let length = line.len();
        let waiting = self.waiting.fetch_add(length, Ordering::Relaxed);
        if waiting + length > QUEUE_BYTES || self.queue.try_send(Message::Line(line)).is_err() {
            self.waiting.fetch_sub(length, Ordering::Relaxed);
            self.dropped.inc();
        }
    }

    pub(super) fn flush(&self) {
        let (done, written) = sync_channel(1);
        // With the writer gone there is nothing to wait for.
        if self.queue.try_send(Message::Flush(done)).is_ok() {
            let _ = written.recv_timeout(FLUSH);
        }
    }

    pub(super) fn dropped(&self) -> &Counter {
        &self.dropped
    }
}

/// The thread. A sink that fails (a closed pipe) loses the lines and nothing else.
fn write(
    mut sink: Box<dyn Write + Send>,
    lines: &Receiver<Message>,
    waiting: &AtomicUsize,
    dropped: &Counter,
) {
    let mut batch = Vec::new();
    while let Ok(first) = lines.recv() {
        let mut flushed = Vec::new();
        for message in std::iter::once(first).chain(lines.try_iter().take(QUEUE)) {
            match message {
                Message::Line(line) => {
                    waiting.fetch_sub(line.len(), Ordering::Relaxed);
                    batch.extend_from_slice(line.as_bytes());
                }
                Message::Flush(done) => flushed.push(done),
            }
        }
        if sink.write_all(&batch).and_then(|()| sink.flush()).is_err() {
            dropped.inc_by(batch.iter().filter(|byte| **byte == b'\n').count() as u64);
        }
        // One burst must not leave its memory behind.
        batch.clear();
        batch.shrink_to(64 << 10);
        let idle = flushed.is_empty();
        for done in flushed {
            // A flusher that gave up no longer listens.
            let _ = done.send(());
        }
        if idle {
            std::thread::sleep(REST);
        }
    }
}
