//! Mails that are on their way to the relay at the same time: no more than allowed, none before it is written down as tried,
//! and never two to one agent.
#![allow(
    clippy::unwrap_used,
    clippy::arithmetic_side_effects,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "tests may panic"
)]

mod office;

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

use mailfleet::daemon::{Question, queue_query};
use mailfleet::system::now;
use office::{Box7, Office};

/// A relay that gives its verdicts together, once so many mails wait for theirs, or none comes any more.
#[derive(Clone)]
struct Relay {
    state: Arc<(Mutex<State>, Condvar)>,
    together: usize,
}

#[derive(Default)]
struct State {
    /// Recipients of the mails that wait for their verdict.
    waiting: Vec<String>,
    /// The most that have waited at a time.
    most: usize,
    /// Two mails to one recipient were on their way at a time.
    crossed: bool,
    /// Recipients of all mails, in the order of their ends.
    taken: Vec<String>,
    /// How often the store said that the relay was asked, when it was.
    tried: Vec<u32>,
    connections: usize,
}

impl Relay {
    fn serve(together: usize, store: std::path::PathBuf) -> (Self, u16) {
        let relay = Self { state: Arc::default(), together };
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let own = relay.clone();
        std::thread::spawn(move || {
            for tcp in listener.incoming() {
                let (relay, store) = (own.clone(), store.clone());
                relay.state.0.lock().unwrap().connections += 1;
                std::thread::spawn(move || relay.talk(tcp.unwrap(), &store));
            }
        });
        (relay, port)
    }

    /// Ends with the connection.
    fn talk(&self, tcp: TcpStream, store: &std::path::Path) -> Option<()> {
        let mut out = tcp.try_clone().ok()?;
        let mut lines = BufReader::new(tcp).lines();
        out.write_all(b"220 hello\r\n").ok()?;
        let mut to = String::new();
        loop {
            let line = lines.next()?.ok()?;
            let reply: &[u8] = match line.get(..4)? {
                "RCPT" => {
                    to.clone_from(&line);
                    b"250 ok\r\n"
                }
                "DATA" => {
                    let db = rusqlite::Connection::open(store).ok()?;
                    let sql = "SELECT max(attempts) FROM recipients r JOIN agents a ON a.id = r.agent
                               WHERE r.state = 'queued' AND ?1 LIKE '%' || a.mail || '%'";
                    let tried = db.query_row(sql, [&to], |row| row.get(0)).unwrap_or(0);
                    self.state.0.lock().unwrap().tried.push(tried);
                    out.write_all(b"354 go\r\n").ok()?;
                    while lines.next()?.ok()? != "." {}
                    self.verdict(&to);
                    b"250 taken\r\n"
                }
                "EHLO" => b"250-me\r\n250 PIPELINING\r\n",
                "QUIT" => b"221 bye\r\n",
                _ => b"250 ok\r\n",
            };
            out.write_all(reply).ok()?;
        }
    }

    /// Waits for the others.
    fn verdict(&self, to: &str) {
        let (state, bell) = &*self.state;
        let mut state = state.lock().unwrap();
        state.crossed |= state.waiting.iter().any(|other| other == to);
        state.waiting.push(to.to_owned());
        state.most = state.most.max(state.waiting.len());
        bell.notify_all();
        let began = Instant::now();
        while state.waiting.len() < self.together && began.elapsed() < Duration::from_millis(400) {
            (state, _) = bell.wait_timeout(state, Duration::from_millis(100)).unwrap();
        }
        drop(state);
        // Those that wait with this one see it, too.
        std::thread::park_timeout(Duration::from_millis(150));
        let mut state = self.state.0.lock().unwrap();
        let place = state.waiting.iter().position(|other| other == to).unwrap();
        state.waiting.remove(place);
        state.taken.push(to.to_owned());
    }
}

fn office_with(agents: usize, together: usize, connections: usize) -> (Office, Vec<Box7>, Relay) {
    let office = Office::new();
    let boxes = office.enrolled(agents);
    let (relay, port) = Relay::serve(together, office.home.store_path());
    let text = std::fs::read_to_string(office.home.config_path()).unwrap();
    let send = format!("send = \"smtp://127.0.0.1:{port}\"\nconnections = {connections}");
    let lines = text.lines().map(|line| if line.starts_with("send =") { send.as_str() } else { line });
    std::fs::write(office.home.config_path(), lines.collect::<Vec<_>>().join("\n")).unwrap();
    (office, boxes, relay)
}

/// One mail for each of these agents.
fn ask(office: &Office, agents: &[Box7]) {
    let ids: Vec<_> = agents.iter().map(|agent| agent.id.clone()).collect();
    let day = Duration::from_secs(24 * 3600);
    office.store().write(|tx| queue_query(tx, Question::Versions, &ids, 1, day, now())).unwrap();
}

#[test]
fn mails_to_different_agents_go_side_by_side_but_no_more_than_allowed() {
    let (office, agents, relay) = office_with(10, 3, 3);
    ask(&office, &agents);
    assert_eq!(office.pass().mails_out, 10);
    let state = relay.state.0.lock().unwrap();
    assert_eq!((state.most, state.taken.len(), state.connections), (3, 10, 3));
    assert_eq!(state.tried, [1; 10], "saved before it is said");
    assert_eq!(state.taken[0], "RCPT TO:<box1@lab.test>", "one goes first, alone");
    drop(state);
    let left = office.store().read(|tx| tx.next_due(now())).unwrap();
    assert!(left.is_none(), "{left:?}");
}

#[test]
fn one_connection_sends_one_after_the_other() {
    let (office, agents, relay) = office_with(4, 2, 1);
    ask(&office, &agents);
    assert_eq!(office.pass().mails_out, 4);
    let state = relay.state.0.lock().unwrap();
    assert_eq!((state.most, state.connections), (1, 1));
}

#[test]
fn two_orders_to_one_agent_never_overtake_each_other() {
    let (office, agents, relay) = office_with(2, 2, 4);
    for _ in 0..3 {
        ask(&office, &agents);
    }
    assert_eq!(office.pass().mails_out, 6);
    let state = relay.state.0.lock().unwrap();
    assert!(!state.crossed, "{:?}", state.taken);
    assert_eq!(state.most, 2, "while those to the other one go on");
}
