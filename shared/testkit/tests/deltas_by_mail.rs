//! Deltas with all programs that ship, over a post office in a folder: two sites that say the same of what they have, one of which has
//! another build of it. The first gets what has changed; so does the second, which cannot use it, asks, and gets the whole
//! (PROTOCOL 6.9 to 6.11).
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    reason = "tests may panic"
)]

use std::fs;
use std::path::PathBuf;
use std::process::Output;

use serde_json::Value;
use tempfile::TempDir;
use testkit::programs::{program, text, wait_until};

const PROGRAM_BYTES: usize = 400_000;

/// One manager, and agents `A0001` and on, in a folder.
struct Office {
    folder: TempDir,
    agents: usize,
}

impl Office {
    fn with_agents(agents: usize) -> Self {
        let office = Self { folder: tempfile::tempdir().unwrap(), agents };
        let post = format!("spool:{}", office.path("post").display());
        fs::create_dir(office.path("post")).unwrap();
        office.manager(&["init", "--address", "manager@lab.test", "--send", &post, "--receive", &post]);
        let mut csv = "id,mail,class,site,note,admin\n".to_owned();
        for n in 1..=agents {
            csv += &format!("A{n:04},agent{n:04}@lab.test,office-gateway,Lab,,\n");
        }
        fs::write(office.path("agents.csv"), csv).unwrap();
        office.manager(&["agent", "import", "agents.csv", "-o", "invites"]);
        for n in 1..=agents {
            let (invite, root) = (format!("invites/A{n:04}.invite"), office.path(&format!("root{n}")));
            fs::create_dir(&root).unwrap();
            let root = root.display().to_string();
            office.agent(n, &["enrol", &invite, "--root", &root, "--send", &post, "--receive", &post]);
        }
        office.until("all agents have said what they have", |office| {
            let agents = office.manager(&["agent", "list", "--json"]);
            (agents.matches("\"reported_at\": \"").count() == office.agents).then_some(())
        });
        office
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn try_run(&self, name: &str, args: &[&str]) -> Output {
        let mut command = program(name);
        command.current_dir(self.folder.path()).env("MAILFLEET_HOME", self.path("manager")).args(args);
        command.output().unwrap()
    }

    fn run(&self, name: &str, args: &[&str]) -> String {
        let out = self.try_run(name, args);
        assert!(out.status.success(), "{name} {args:?}: {}", text(&out));
        // What a program prints for others to read has nothing else in it.
        if args.contains(&"--json") { String::from_utf8(out.stdout).unwrap() } else { text(&out) }
    }

    fn manager(&self, args: &[&str]) -> String {
        self.run("mailfleet", args)
    }

    fn agent(&self, n: usize, args: &[&str]) -> String {
        let home = format!("agent{n}");
        self.run("mailfleet-agent", &[&["--home", &home, "--log", "info"], args].concat())
    }

    /// Lets everybody work in turn until something has come about.
    fn until<T>(&self, what: &str, look: impl Fn(&Self) -> Option<T>) -> T {
        wait_until(what, || {
            self.manager(&["run", "--once"]);
            (1..=self.agents).for_each(|n| drop(self.agent(n, &["run", "--once"])));
            look(self)
        })
    }

    /// Builds a bundle of one program.
    fn build(&self, output: &str, version: &str, content: &[u8], more: &[&str]) -> String {
        let folder = self.path(output).with_extension("d");
        fs::create_dir(&folder).unwrap();
        fs::write(folder.join("program"), content).unwrap();
        let toml = format!(
            "software_version = \"{version}-0\"\n[[module]]\nname = \"program\"\nversion = \"{version}\"\n\
             date = \"2026-01-01\"\nfile = \"program\"\npath = \"bin/program\"\nmode = \"0755\"\nkind = \"on-demand\"\n"
        );
        fs::write(folder.join("bundle.toml"), toml).unwrap();
        let folder = folder.display().to_string();
        self.manager(&[&["bundle", "build", &folder, "-o", output], more].concat())
    }

    /// Brings a bundle to agents; gives what the command says.
    fn start(&self, bundle: &str, to: &[&str]) -> String {
        let terms = ["--settle", "1s", "--reply-timeout", "50s", "--retries", "0"];
        self.manager(&[&["campaign", "start", bundle], to, &terms].concat())
    }

    fn targets(&self, campaign: &str) -> Vec<Value> {
        let shown = self.manager(&["campaign", "show", campaign, "--json"]);
        let shown: Value = serde_json::from_str(&shown).unwrap();
        shown["targets"].as_array().unwrap().clone()
    }

    fn until_verified(&self, campaign: &str) {
        self.until("all are verified", |office| {
            let targets = office.targets(campaign);
            let failed = targets.iter().find(|target| target["state"] == "failed");
            assert!(failed.is_none(), "{failed:?}");
            targets.iter().all(|target| target["state"] == "verified").then_some(())
        });
    }

    fn installed(&self, n: usize) -> Vec<u8> {
        fs::read(self.path(&format!("root{n}/bin/program"))).unwrap()
    }

    /// Sizes of the mails that wait for an agent.
    fn mails(&self, n: usize) -> Vec<u64> {
        let folder = self.path(&format!("post/agent{n:04}@lab.test/new"));
        fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().metadata().unwrap().len()).collect()
    }
}

/// A program that does not compress away.
fn old_build(seed: u64) -> Vec<u8> {
    let mut n = seed;
    let mut next = || {
        n = n.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        u8::try_from(n >> 56).unwrap()
    };
    (0..PROGRAM_BYTES).map(|_| next()).collect()
}

/// Its next build: some addresses are others, and something is new.
fn new_build() -> Vec<u8> {
    let mut content = old_build(1);
    content.iter_mut().step_by(1_009).for_each(|byte| *byte = byte.wrapping_add(8));
    content.splice(200_000..200_000, old_build(3)[..2_000].iter().copied());
    content
}

#[test]
fn sites_with_the_older_files_get_what_has_changed_and_who_has_others_asks_for_the_whole() {
    let office = Office::with_agents(2);
    office.build("old.mfb", "1.0.01", &old_build(1), &[]);
    // Of the same name, version and date, and not the same.
    office.build("other.mfb", "1.0.01", &old_build(2), &[]);
    office.start("old.mfb", &["--agent", "A0001"]);
    office.start("other.mfb", &["--agent", "A0002"]);
    office.until_verified("1");
    office.until_verified("2");

    let built = office.build("new.mfb", "1.0.02", &new_build(), &["--from", "old.mfb"]);
    assert!(built.contains("from 1.0.01-0: ") && built.contains("1 module patched"), "{built}");
    let inspected: Value =
        serde_json::from_str(&office.manager(&["bundle", "inspect", "new.mfb", "--json"])).unwrap();
    let (delta, full) = (&inspected["deltas"][0], inspected["bundle_bytes"].as_u64().unwrap());
    assert!(delta["bytes"].as_u64().unwrap() * 50 < full, "{inspected}");
    // What is mailed has nine bytes and the head before the payload that the file holds.
    let head = full - inspected["payload_bytes"].as_u64().unwrap();
    assert_eq!(inspected["file_bytes"].as_u64().unwrap() - full, delta["bytes"].as_u64().unwrap() - head - 9);

    let planned: Value =
        serde_json::from_str(&office.manager(&["campaign", "plan", "new.mfb", "--all", "--json"])).unwrap();
    assert_eq!(planned["deltas"][0]["agents"], 2, "{planned}");
    let said = office.start("new.mfb", &["--all"]);
    assert!(said.contains("2 agents with 1.0.01-0 by the delta: mails of "), "{said}");
    office.manager(&["run", "--once"]);
    for n in [1, 2] {
        let mails = office.mails(n);
        assert!(mails.len() == 1 && mails[0] < 40_000, "{mails:?}");
    }
    office.agent(1, &["run", "--once"]);
    assert_eq!(office.installed(1), new_build(), "by the delta alone");

    // `run --once` ends with an error code where an order has not been carried out.
    let log =
        text(&office.try_run("mailfleet-agent", &["--home", "agent2", "--log", "info", "run", "--once"]));
    assert!(log.contains("is not the file that the delta was made for"), "{log}");
    assert_eq!(office.installed(2), old_build(2), "nothing has changed");
    wait_until("the whole is on its way to the second", || {
        office.manager(&["run", "--once"]);
        office.mails(2).into_iter().find(|bytes| *bytes > PROGRAM_BYTES as u64)
    });
    assert!(office.mails(1).iter().all(|bytes| *bytes < 40_000), "and not to the first");
    office.until_verified("4");
    assert_eq!(office.installed(2), new_build());
    for target in office.targets("4") {
        assert_eq!(target["attempts"], 1, "{target}");
    }
}
