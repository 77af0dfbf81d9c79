//! A campaign as an operator runs it, with all that ships: test agents first, then the administrator is asked and answers from a
//! mail program, then waves, of which one is halted by its gate. What people get to read is compared with
//! `fixtures/golden/rollout-by-mail`; `UPDATE_GOLDEN=1` writes those files anew. Needs what `scripts/mail-lab` needs.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    reason = "tests may panic"
)]

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::TcpStream;
use std::path::{Path, PathBuf};

use mail_parser::{MessageParser, MimeHeaders as _};
use serde_json::Value;
use testkit::lab::MailLab;
use testkit::programs::{Programs, wait_until};

const TEST_AGENTS: usize = 2;
const AGENTS: usize = 8;

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures")
}

fn id(n: usize) -> String {
    format!("A{n:04}")
}

/// An operator, two boxes of his own, and six at a customer's with one administrator.
struct Fleet {
    programs: Programs,
    /// The n-th agents of each wave, from the first; who is where follows from the bundle's digest.
    waves: Vec<Vec<usize>>,
}

impl Fleet {
    fn new() -> Option<Self> {
        let lab = MailLab::new(AGENTS, &["root", "ops", "releases"])?;
        let programs = Programs::new(lab, "operator = \"ops@lab.test\"\n");
        let mut csv = "id,mail,class,site,note,admin\n".to_owned();
        for n in 1..=AGENTS {
            let (site, admin) = if n <= TEST_AGENTS { ("Lab", "") } else { ("Berlin", "root@lab.test") };
            csv += &format!("{},agent{n:04}@lab.test,office-gateway,{site},,{admin}\n", id(n));
        }
        programs.enrol(&csv, "");
        programs.manager(&["agent", "set", "--where", "site = Berlin", "zone=Europe/Berlin"]);
        Some(Self { programs, waves: Vec::new() })
    }

    /// A release with a test, a vendor and notes.
    fn bundle(&self) {
        let folder = self.programs.path("gateway");
        let copy = ["cp", "-r", fixtures().join("bundles/office-gateway-1.0.02").to_str().unwrap()]
            .map(str::to_owned);
        assert!(
            std::process::Command::new(&copy[0]).args(&copy[1..]).arg(&folder).status().unwrap().success()
        );
        let file = folder.join("bundle.toml");
        let text = fs::read_to_string(&file).unwrap();
        let notes = "notes = \"The sensor counts again after a paper jam.\"\n";
        let more = "\n[test]\nmodule = \"sensor\"\nargs = [\"--self-test\"]\noutput = \"self-test: good\"\n\n\
                    [vendor]\nname = \"Alpha Ltd\"\nmail = \"releases@lab.test\"\n";
        fs::write(&file, format!("{notes}{text}{more}")).unwrap();
        self.programs.manager(&["bundle", "build", "gateway", "-o", "gateway.mfb"]);
    }

    fn plan(&mut self) -> String {
        let tests = (1..=TEST_AGENTS).map(id).collect::<Vec<_>>().join(",");
        let common = ["campaign", "plan", "gateway.mfb", "--all", "--name", "spring", "--test"];
        let terms =
            "--soak 1s --waves 2,2,rest --observe 1s --ask 1d --settle 1s --reply-timeout 50s --retries 0";
        let args: Vec<&str> = common.into_iter().chain([tests.as_str()]).chain(terms.split(' ')).collect();
        let text = self.programs.manager(&args);
        self.waves = vec![Vec::new(); 4];
        for target in self.campaign()["targets"].as_array().unwrap() {
            let wave = usize::try_from(target["wave"].as_u64().unwrap()).unwrap();
            let n = target["agent"].as_str().unwrap().trim_start_matches('A').parse().unwrap();
            self.waves[wave - 1].push(n);
        }
        text
    }

    fn campaign(&self) -> Value {
        serde_json::from_str(&self.programs.manager(&["campaign", "show", "1", "--json"])).unwrap()
    }

    fn states(&self, wave: usize) -> Vec<String> {
        let campaign = self.campaign();
        let targets = campaign["targets"].as_array().unwrap();
        let state = |n: &usize| {
            let target = targets.iter().find(|target| target["agent"] == id(*n)).unwrap();
            target["state"].as_str().unwrap().to_owned()
        };
        self.waves[wave].iter().map(state).collect()
    }

    fn wait_for(&self, wave: usize, states: [&str; 2]) {
        wait_until(&format!("wave {} is {states:?}", wave + 1), || {
            (self.states(wave) == states).then_some(())
        });
    }

    /// What is written about agents, by their place in the waves instead of their names.
    fn by_place(&self, text: &str) -> String {
        let places: BTreeMap<String, String> = self
            .waves
            .iter()
            .enumerate()
            .flat_map(|(wave, agents)| agents.iter().enumerate().map(move |(place, n)| (wave, place, *n)))
            .flat_map(|(wave, place, n)| {
                let place = format!("{}.{}", wave + 1, place + 1);
                [(id(n), format!("AGENT-{place}")), (format!("agent{n:04}"), format!("agent-{place}"))]
            })
            .collect();
        places.iter().fold(text.to_owned(), |text, (name, place)| text.replace(name, place))
    }
}

/// Replaces what differs from run to run.
fn steady(text: &str) -> String {
    let words: Vec<String> = text
        .replace("\r\n", "\n")
        .split_inclusive([' ', '\n', ',', ']', '>', '<'])
        .map(steady_word)
        .collect();
    words.concat()
}

fn steady_word(word: &str) -> String {
    let end = word.find([' ', '\n', ',', ']', '>', '<']).unwrap_or(word.len());
    let (word, end) = word.split_at(end);
    let shape: String = word.chars().map(|c| if c.is_ascii_digit() { '0' } else { c }).collect();
    let is_hex = word.len() == 64 && word.bytes().all(|b| b.is_ascii_hexdigit());
    let steady = match shape.as_str() {
        "0000-00-00T00:00:00Z" => "<TIME>",
        "0000-00-00" => "<DAY>",
        "00:00" => "<HOUR>",
        _ if is_hex => "<SHA-256>",
        _ if word.starts_with("[mf-") => "[mf-<TOKEN>",
        _ => word,
    };
    format!("{steady}{end}")
}

/// A mail as a person sees it: the fields that count, and each text in it.
fn read(mail: &str) -> String {
    let parsed = MessageParser::default().parse(mail.as_bytes()).unwrap();
    let address = |list: Option<&mail_parser::Address<'_>>| {
        list.and_then(|list| list.first()).and_then(|a| a.address()).unwrap_or_default().to_owned()
    };
    let mut text = format!(
        "From: {}\nTo: {}\nSubject: {}\n",
        address(parsed.from()),
        address(parsed.to()),
        parsed.subject().unwrap()
    );
    for part in &parsed.parts {
        if let Some(body) = part.text_contents() {
            let kind = part.content_type().and_then(|kind| kind.subtype()).unwrap_or("plain");
            text += &format!("\n--- {kind}\n{}\n", body.trim_end());
        }
    }
    text
}

/// Compares with a file that was looked at.
fn assert_golden(name: &str, text: &str) {
    let file = fixtures().join("golden/rollout-by-mail").join(name);
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(&file, text).unwrap();
    }
    assert_eq!(text, fs::read_to_string(&file).unwrap_or_default(), "{name}");
}

/// Hands a person's mail to the mail server as a mail program would.
fn send(lab: &MailLab, from: &str, mail: &str) {
    let port = lab.var("LAB_SMTP_PORT").parse().unwrap();
    let mut to_server = TcpStream::connect(("127.0.0.1", port)).unwrap();
    let mut replies = BufReader::new(to_server.try_clone().unwrap()).lines();
    let body = mail.replace('\n', "\r\n");
    let steps = [
        ("HELO desk.lab.test\r\n".to_owned(), "220"),
        (format!("MAIL FROM:<{from}>\r\n"), "250"),
        ("RCPT TO:<manager@lab.test>\r\n".to_owned(), "250"),
        ("DATA\r\n".to_owned(), "250"),
        (format!("{body}\r\n.\r\n"), "354"),
        ("QUIT\r\n".to_owned(), "250"),
    ];
    for (words, expected) in steps {
        let reply = replies.next().unwrap().unwrap();
        assert!(reply.starts_with(expected), "{reply}");
        to_server.write_all(words.as_bytes()).unwrap();
    }
}

/// A reply as people write it: the answer above, the letter quoted below.
fn reply_to(letter: &str, from: &str, answer: &str) -> String {
    let parsed = MessageParser::default().parse(letter.as_bytes()).unwrap();
    let quoted: String = parsed.body_text(0).unwrap().lines().map(|line| format!("> {line}\n")).collect();
    format!(
        "From: Robin Root <{from}>\nTo: manager@lab.test\nSubject: RE: {}\nIn-Reply-To: <{}>\nMIME-Version: 1.0\n\
         Content-Type: text/plain; charset=utf-8\n\n{answer}\n\n{quoted}",
        parsed.subject().unwrap(),
        parsed.message_id().unwrap_or_default(),
    )
}

#[test]
fn a_campaign_is_tried_first_then_asked_about_then_mailed_in_waves_and_stopped_by_a_gate() {
    let Some(mut fleet) = Fleet::new() else { return };
    fleet.bundle();
    let plan = fleet.plan();
    assert_golden("plan.txt", &steady(&plan));
    let [tests, first, second, last] = [0, 1, 2, 3].map(|wave| fleet.waves[wave].clone());
    assert_eq!(tests, [1, 2]);
    // One box of the second wave of customers has a defect that the vendor did not think of.
    fs::write(fleet.programs.path(&format!("root/{}/broken-sensor", second[0])), "").unwrap();
    fleet.programs.manager(&["campaign", "start", "--plan", "1"]);
    let _manager = fleet.programs.manager_runs();

    let running: Vec<_> = tests.iter().map(|n| fleet.programs.agent_runs(*n)).collect();
    let asked = wait_until("test agents have passed, and the customer is asked", || {
        fleet.programs.lab.mails("root").first().map(|file| fs::read_to_string(file).unwrap())
    });
    assert_eq!(fleet.states(0), ["verified", "verified"]);
    for wave in [&first, &second, &last] {
        for n in wave {
            assert!(fleet.programs.lab.mails(&format!("agent{n:04}")).is_empty(), "nothing goes out unasked");
        }
    }
    assert_golden("question.txt", &steady(&read(&asked)));

    // An absence note and a colleague's word do nothing.
    let absent =
        reply_to(&asked, "root@lab.test", "YES").replacen('\n', "\nAuto-Submitted: auto-replied\n", 1);
    send(&fleet.programs.lab, "root@lab.test", &absent);
    send(&fleet.programs.lab, "ops@lab.test", &reply_to(&asked, "ops@lab.test", "YES"));
    wait_until("the manager has read both", || fleet.programs.lab.mails("manager").is_empty().then_some(()));
    assert_eq!(fleet.states(1), ["asked", "asked"]);
    send(&fleet.programs.lab, "root@lab.test", &reply_to(&asked, "root@lab.test", "Yes."));
    let running: Vec<_> =
        running.into_iter().chain(first.iter().map(|n| fleet.programs.agent_runs(*n))).collect();
    fleet.wait_for(1, ["verified", "verified"]);

    // The good one first: who has begun goes on, whatever the gate says.
    let good = fleet.programs.agent_runs(second[1]);
    wait_until("the good box of the second wave", || (fleet.states(2)[1] == "verified").then_some(()));
    let broken = fleet.programs.agent_runs(second[0]);
    fleet.wait_for(2, ["failed", "verified"]);
    let halted = fleet.programs.mails("ops", 1).remove(0);
    let returned = fleet.programs.mails("releases", 1).remove(0);
    assert_eq!(fleet.campaign()["state"], "halted");
    assert_eq!(fleet.states(3), ["pending", "pending"], "nobody else gets it");
    for n in &last {
        assert!(fleet.programs.lab.mails(&format!("agent{n:04}")).is_empty());
    }
    drop((running, good, broken));

    assert_golden("halted.txt", &steady(&fleet.by_place(&read(&halted))));
    assert_golden("returned-to-vendor.txt", &steady(&fleet.by_place(&read(&returned))));
    let csv = fleet.by_place(&fleet.programs.manager(&["report", "campaign", "1"]));
    let mut rows: Vec<&str> = csv.lines().collect();
    rows[1..].sort_unstable();
    assert_golden("campaign.csv", &steady(&format!("{}\n", rows.join("\n"))));
    let audit = fleet.programs.manager(&["audit"]);
    assert!(audit.contains("campaign 1 started as planned"), "{audit}");
    fleet.programs.manager(&["audit", "verify"]);
}
