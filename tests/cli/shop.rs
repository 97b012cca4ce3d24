//! A world with a publisher: a key, a signed image, and a server that has them.
#![allow(clippy::unwrap_used, reason = "what a test can't prepare fails it")]

use std::fs;
use std::path::PathBuf;
use std::sync::Arc;

use crate::hostile::noise;
use crate::support::Run;
use crate::support::keys::TestKey;
use crate::support::run::Ended;
use crate::support::server::{Answer, Asked, Server};
use crate::support::tar::Tar;
use crate::world::World;

pub(crate) const RKT: &str = "--dir=data --system-config=sys --local-config=loc";

/// What the publisher has.
pub(crate) struct Goods {
    pub(crate) key: TestKey,
    pub(crate) image: Vec<u8>,
    pub(crate) signature: Vec<u8>,
}

impl Goods {
    /// A signed image of this name, whose only file has so many bytes.
    pub(crate) fn new(name: &str, size: usize) -> Arc<Self> {
        let key = TestKey::new("publisher");
        let image = Tar::aci(name).file("rootfs/noise", noise(size)).end();
        let signature = key.sign(&image);
        Arc::new(Self { key, image, signature })
    }
}

/// A world whose whole internet is a server.
pub(crate) struct Shop {
    pub(crate) world: World,
    pub(crate) server: Server,
    pub(crate) goods: Arc<Goods>,
}

/// The image of most tests.
pub(crate) const URL: &str = "https://example.com/app.aci";

impl Shop {
    /// A server that has image and signature; `route` may answer otherwise.
    pub(crate) fn new(
        size: usize,
        route: impl Fn(&Asked, &Goods) -> Option<Answer> + Send + Sync + 'static,
    ) -> Self {
        let goods = Goods::new("example.com/app", size);
        let served = Arc::clone(&goods);
        let server = Server::start(move |asked| {
            if let Some(answer) = route(asked, &served) {
                return answer;
            }
            match asked.path.as_str() {
                "/app.aci" => Answer::file(asked, &served.image, "\"one\""),
                "/app.aci.asc" => Answer::ok(served.signature.clone()),
                _ => Answer::status(404),
            }
        });
        let shop = Self { world: World::new(), server, goods };
        shop.trust(&shop.goods.key);
        shop
    }

    pub(crate) fn trust(&self, key: &TestKey) {
        self.put(&format!("loc/trustedkeys/prefix.d/example.com/{}", key.fingerprint()), key.public());
    }

    pub(crate) fn put(&self, path: &str, bytes: impl AsRef<[u8]>) {
        let path = self.world.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    }

    /// Prepares `rkt` with the server as proxy of everything.
    pub(crate) fn rkt(&self, words: &str) -> Run {
        let mut run = self.world.rkt(&format!("{RKT} {words}"));
        for (name, value) in self.server.environment() {
            run = run.env(name, value);
        }
        run
    }

    pub(crate) fn run(&self, words: &str) -> Ended {
        self.rkt(words).end()
    }

    pub(crate) fn fetch(&self, words: &str) -> Ended {
        self.run(&format!("fetch {words}"))
    }

    /// Fails with these lines, and leaves nothing that is listed.
    pub(crate) fn refused(&self, words: &str, stderr: &str) {
        self.fetch(words).expect(254, "", stderr);
        self.expect_nothing();
    }

    /// Nothing is in the store.
    pub(crate) fn expect_nothing(&self) {
        for dir in ["image", "tree"] {
            assert_eq!(self.names(dir), [""; 0], "{dir}");
        }
        self.run("image list --format=json").expect(0, "null\n", "");
    }

    /// The names in a directory of the store; none if it is missing.
    pub(crate) fn names(&self, dir: &str) -> Vec<String> {
        let entries = fs::read_dir(self.store().join(dir)).into_iter().flatten();
        let mut names: Vec<_> =
            entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    pub(crate) fn store(&self) -> PathBuf {
        self.world.path().join("data/cas")
    }

    /// What a good signature shows.
    pub(crate) fn verified(&self) -> String {
        format!(
            "image: signature verified:\n  publisher\n  key {}, trusted for prefix \"example.com\"\n",
            self.goods.key.fingerprint()
        )
    }
}
