//! Which tunnel a stream gets.

use std::cell::{Cell, RefCell};
use std::io;
use std::rc::Rc;
use std::time::Duration;

use ambit_process::spawn::spawn_local;
use ambit_transport::addr::ServerAddr;
use ambit_transport::hbone::{ConnectRequest, Directory, Key, OpenError, Pool, Settings, Stream, Tunnel};
use tokio::sync::Notify;

use super::support::{World, client_identity, on_a_worker, server_identity};

/// A pool whose dials make whole worlds, so that each tunnel has a server of its own.
struct Pooled {
    pool: Pool<io::Error>,
    directory: Directory,
    settings: Settings,
    worlds: Rc<RefCell<Vec<World>>>,
}

fn key(pod: &str) -> Key {
    Key {
        pod: pod.into(),
        identity: client_identity(),
        to: ServerAddr::from(std::net::SocketAddr::from(([127, 0, 0, 1], 15008))),
        expected: [server_identity()].into(),
    }
}

impl Pooled {
    fn new(settings: Settings) -> Self {
        let directory = Directory::default();
        let pool = Pool::new(3, directory.clone(), settings.clone());
        Self { pool, directory, settings, worlds: Rc::default() }
    }

    async fn dial(&self) -> Result<Tunnel, io::Error> {
        let world = World::new(&self.settings).await;
        let tunnel = world.tunnel.clone();
        self.worlds.borrow_mut().push(world);
        Ok(tunnel)
    }

    /// The listener is the first world's; every server dials what the authority says.
    fn request(&self, app: &tokio::net::TcpListener) -> ConnectRequest {
        ConnectRequest { authority: app.local_addr().unwrap().to_string(), headers: http::HeaderMap::new() }
    }

    async fn open(&self, key: &Key, app: &tokio::net::TcpListener) -> Result<Stream, OpenError<io::Error>> {
        self.pool.open(key, &self.request(app), || self.dial()).await
    }

    fn dialled(&self) -> usize {
        self.worlds.borrow().len()
    }
}

async fn listener() -> tokio::net::TcpListener {
    tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap()
}

#[test]
fn streams_share_a_tunnel_and_a_full_one_is_used_again() {
    on_a_worker(async {
        let pooled = Pooled::new(Settings { max_streams_per_tunnel: 2, ..Settings::default() });
        let app = listener().await;
        let one = pooled.open(&key("a"), &app).await.unwrap();
        let _two = pooled.open(&key("a"), &app).await.unwrap();
        assert_eq!((pooled.dialled(), pooled.directory.worker_for(&key("a"))), (1, None), "full");
        let _three = pooled.open(&key("a"), &app).await.unwrap();
        assert_eq!((pooled.dialled(), pooled.directory.worker_for(&key("a"))), (2, Some(3)));
        let _four = pooled.open(&key("a"), &app).await.unwrap();
        drop(one);
        let _five = pooled.open(&key("a"), &app).await.unwrap();
        assert_eq!(pooled.dialled(), 2, "the first tunnel has room again");
        let _other = pooled.open(&key("b"), &app).await.unwrap();
        assert_eq!(pooled.dialled(), 3, "another pod never shares");
    });
}

#[test]
fn a_tunnel_with_a_full_queue_gets_a_second_beside_it() {
    on_a_worker(async {
        let pooled = Pooled::new(Settings { queue_mark: 64 * 1024, ..Settings::default() });
        let app = listener().await;
        let mut stream = pooled.open(&key("a"), &app).await.unwrap();
        let _idle = pooled.open(&key("a"), &app).await.unwrap();
        assert_eq!(pooled.dialled(), 1);
        // The application does not read: what is sent beyond its window waits in the tunnel.
        let load = pooled.worlds.borrow()[0].tunnel.load().clone();
        while load.queued() < 64 * 1024 {
            let credit = std::future::poll_fn(|cx| stream.poll_credit(cx, 1 << 20)).await.unwrap();
            stream.send(vec![0; credit].into()).unwrap();
        }
        let _new = pooled.open(&key("a"), &app).await.unwrap();
        assert_eq!(pooled.dialled(), 2);
    });
}

#[test]
fn one_dials_while_others_wait_and_a_failure_reaches_them_all() {
    on_a_worker(async {
        let pooled = Rc::new(Pooled::new(Settings::default()));
        let app = listener().await;
        let request = pooled.request(&app);
        let (dials, go) = (Rc::new(Cell::new(0)), Rc::new(Notify::new()));
        let callers: Vec<_> = (0..10)
            .map(|_| {
                let (pooled, request, dials, go) =
                    (pooled.clone(), request.clone(), dials.clone(), go.clone());
                spawn_local("caller", async move {
                    let dial = || async {
                        dials.set(dials.get() + 1);
                        go.notified().await;
                        Err(io::ErrorKind::HostUnreachable.into())
                    };
                    pooled.pool.open(&key("a"), &request, dial).await
                })
            })
            .collect();
        while dials.get() == 0 {
            tokio::task::yield_now().await;
        }
        for _ in 0..100 {
            tokio::task::yield_now().await;
        }
        go.notify_one();
        for caller in callers {
            match caller.await.unwrap() {
                Err(OpenError::Dial(cause)) => assert_eq!(cause.kind(), io::ErrorKind::HostUnreachable),
                other => panic!("{:?}", other.err()),
            }
        }
        assert_eq!(dials.get(), 1);
        pooled.open(&key("a"), &app).await.unwrap();
        assert_eq!(pooled.dialled(), 1, "the next caller dials anew");
    });
}

#[test]
fn a_caller_that_gives_up_dialling_leaves_the_next_to_dial() {
    on_a_worker(async {
        let pooled = Pooled::new(Settings::default());
        let app = listener().await;
        let request = pooled.request(&app);
        let key = key("a");
        let never = pooled.pool.open(&key, &request, std::future::pending);
        assert!(tokio::time::timeout(Duration::from_millis(20), never).await.is_err());
        pooled.open(&key, &app).await.unwrap();
    });
}

#[test]
fn a_pod_that_leaves_takes_its_tunnels_along() {
    on_a_worker(async {
        let pooled = Pooled::new(Settings::default());
        let app = listener().await;
        drop(pooled.open(&key("a"), &app).await.unwrap());
        drop(pooled.open(&key("b"), &app).await.unwrap());
        assert_eq!((pooled.pool.tunnels(), pooled.directory.tunnels()), (2, 2));
        pooled.pool.retire("a");
        let gone = pooled.worlds.borrow()[0].tunnel.clone();
        gone.closed().await;
        assert_eq!(pooled.pool.tunnels(), 1);
        while pooled.directory.tunnels() != 1 {
            tokio::task::yield_now().await;
        }
        assert_eq!(pooled.directory.worker_for(&key("a")), None);
    });
}

#[test]
fn a_tunnel_that_closed_meanwhile_is_replaced_without_the_caller_noticing() {
    on_a_worker(async {
        let pooled = Pooled::new(Settings::default());
        let app = listener().await;
        drop(pooled.open(&key("a"), &app).await.unwrap());
        let server = {
            let mut worlds = pooled.worlds.borrow_mut();
            let world = &mut worlds[0];
            world.drain.send_replace(());
            std::mem::replace(&mut world.server, spawn_local("nothing", async { Ok(()) }))
        };
        server.abort();
        assert!(server.await.is_err());
        pooled.open(&key("a"), &app).await.unwrap();
        assert_eq!(pooled.dialled(), 2);
    });
}

#[test]
fn the_number_of_tunnels_is_bounded() {
    on_a_worker(async {
        let settings = Settings { max_tunnels: 1, max_streams_per_tunnel: 1, ..Settings::default() };
        let pooled = Pooled::new(settings);
        let app = listener().await;
        let _one = pooled.open(&key("a"), &app).await.unwrap();
        assert!(matches!(pooled.open(&key("a"), &app).await, Err(OpenError::Full)));
        assert!(matches!(pooled.open(&key("b"), &app).await, Err(OpenError::Full)));
    });
}
