//! The lives of this node's pods: begun and steered by what the objects say, and by what the CNI plugin does.

use std::collections::BTreeMap;
use std::sync::Arc;

use ambit_crds::source::SourceEvent;
use ambit_process::readiness::Readiness;
use ambit_process::spawn::spawn;
use tokio::sync::watch;

use crate::cni::server::{Happening, Question, Stands};
use crate::enrol::{Change, Identity, Known, Planner, Wanted};
use crate::handover::{Handover, PodUid};
use crate::pod::node::Node;
use crate::pod::{Given, Orders, Progress, live};

/// All lives, and what they share.
pub struct Lives {
    planner: Planner,
    node: Arc<Node>,
    handover: Handover,
    lives: BTreeMap<PodUid, Life>,
    looks: Readiness,
    /// Questions about pods that have not been heard of. Whoever asks bounds them, and waits for each.
    unheard: Vec<Question>,
}

/// The way to one life.
struct Life {
    wanted: watch::Sender<Wanted>,
    given: watch::Sender<Given>,
    progress: watch::Sender<Progress>,
}

impl Lives {
    /// Nobody lives yet. Each life's first look is held in `looks`.
    pub fn new(planner: Planner, node: Arc<Node>, handover: Handover, looks: Readiness) -> Self {
        Self { planner, node, handover, lives: BTreeMap::new(), looks, unheard: Vec::new() }
    }

    /// Takes what the source says.
    pub async fn take(&mut self, event: &SourceEvent) {
        if let SourceEvent::Reported(fault) = event {
            tracing::debug!(?fault, "reported by the source");
        }
        let changes = self.planner.take(event);
        self.change(changes).await;
    }

    /// Takes every pod out of the mesh, those that come later too.
    pub async fn leave(&mut self) {
        let changes = self.planner.leave();
        self.change(changes).await;
    }

    /// Those that are not outside yet.
    pub fn inside(&self) -> usize {
        self.lives.values().filter(|life| *life.progress.borrow() != Progress::Outside).count()
    }

    /// Answers the CNI plugin, or keeps its question until the pod has been heard of.
    pub fn ask(&mut self, question: Question) {
        let known = self.planner.known(&question.object, question.uid.as_ref());
        let life = match &known {
            Known::Lives(uid) => self.lives.get(uid),
            Known::NotYet | Known::Outside => None,
        };
        let goes = matches!(question.network, Happening::Goes(_));
        let stands = match (life, known) {
            (Some(life), _) => Stands::Lives(life.hear(question.network)),
            (None, Known::Outside) => Stands::Outside,
            // It is gone already.
            (None, _) if goes => Stands::Outside,
            (None, _) => {
                self.unheard.retain(|question| !question.answer.is_closed());
                self.unheard.push(question);
                return;
            }
        };
        // Nobody may wait for it any more.
        let _ = question.answer.send(stands);
    }

    async fn change(&mut self, changes: Vec<Change>) {
        for Change { pod, wanted } in changes {
            if wanted == Wanted::Gone {
                // Here and not in the pod's own life: a successor of the same name must not lose its annotation to it.
                self.node.annotate(&pod, None).await;
                if let Some(life) = self.lives.remove(&pod.uid) {
                    life.wanted.send_replace(wanted);
                }
                continue;
            }
            match self.lives.get(&pod.uid) {
                Some(life) => drop(life.wanted.send_replace(wanted)),
                None => self.begin(pod, wanted),
            }
        }
        for question in std::mem::take(&mut self.unheard) {
            self.ask(question);
        }
    }

    fn begin(&mut self, pod: Identity, wanted: Wanted) {
        let life = Life {
            wanted: watch::Sender::new(wanted),
            given: watch::Sender::default(),
            progress: watch::Sender::default(),
        };
        let orders = Orders {
            wanted: life.wanted.subscribe(),
            given: life.given.subscribe(),
            progress: life.progress.clone(),
        };
        let first = self.looks.hold(pod.uid.to_string());
        self.lives.insert(pod.uid.clone(), life);
        spawn("pod", live(pod, orders, Arc::clone(&self.node), self.handover.clone(), first));
    }
}

impl Life {
    /// Tells it what happens to its network, and follows how far it comes from then on.
    fn hear(&self, happening: Happening) -> watch::Receiver<Progress> {
        match happening {
            Happening::Made(handed) => {
                // Outside was before it was asked for.
                self.progress.send_if_modified(|progress| {
                    let was_outside = *progress == Progress::Outside;
                    if was_outside {
                        *progress = Progress::Begun;
                    }
                    was_outside
                });
                self.given.send_replace(Given::Handed(handed));
            }
            Happening::Goes(network) => {
                let going = network.netns().id();
                self.given.send_if_modified(|given| {
                    let is_news = !given.is_superseded(going);
                    if is_news {
                        *given = Given::Parted(going);
                    }
                    is_news
                });
            }
            Happening::Nothing => {}
        }
        self.progress.subscribe()
    }
}
