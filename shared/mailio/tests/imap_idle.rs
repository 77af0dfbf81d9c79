//! What servers do to one who waits for news (RFC 2177), each by a scripted server: honest news comes at once, and
//! whatever else they do, there is no more than the next poll, and that one works.
#![allow(
    clippy::unwrap_used,
    clippy::arithmetic_side_effects,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::cast_possible_truncation,
    reason = "tests"
)]

mod common;

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use common::imap::{World, answer, world as world_of};
use common::*;
use mailio::{Disposal, MailSettings, Mailbox, Progress, SecretSource, Timeouts};
use tokio::sync::Notify;

const OFFERS: &str = "IMAP4rev1 AUTH=PLAIN SASL-IR UIDPLUS MOVE IDLE";

/// What the server does when it is asked to idle.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Way {
    /// Tells of what comes.
    Honest,
    /// Accepts and never says a word.
    Mute,
    /// Neither accepts nor refuses.
    Silent,
    Refuse,
    /// Tells of a mail before it accepts.
    Early,
    /// Tells of nine mails that are not there.
    Lie,
    /// Hangs up at once.
    Drop,
    Bye,
    /// Does not answer DONE.
    Deaf,
    /// Says without end that it is still there.
    Flood,
    /// Says so three times.
    Chatter,
}

/// A mailbox that gets mail while its server works.
#[derive(Clone)]
struct Post {
    world: Arc<Mutex<World>>,
    came: Arc<Notify>,
}

impl Post {
    fn new(count: usize, capabilities: &'static str) -> Self {
        let world = World { capabilities, ..world_of(count) };
        Self { world: Arc::new(Mutex::new(world)), came: Arc::default() }
    }

    fn comes(&self) {
        let mut world = self.world.lock().unwrap();
        let n = world.mails.len();
        let (_, text) = world_of(n + 1).mails.pop().unwrap();
        let uid = world.mails.last().map_or(100, |(uid, _)| uid + 2);
        world.mails.push((uid, text));
        drop(world);
        self.came.notify_waiters();
    }

    fn exists(&self) -> usize {
        self.world.lock().unwrap().mails.len()
    }
}

async fn server(mut conn: Conn, post: Post, way: Way) {
    conn.say("* OK hello\r\n").await;
    while let Some(line) = conn.line().await {
        let (tag, command) = line.split_once(' ').unwrap();
        if command != "IDLE" {
            let answer = answer(&post.world.lock().unwrap().clone(), command);
            conn.say_bytes(&answer).await;
            conn.say(&format!("{tag} OK done\r\n")).await;
            continue;
        }
        match way {
            Way::Silent => return conn.hang().await,
            Way::Refuse => {
                conn.say(&format!("{tag} NO not today\r\n")).await;
                continue;
            }
            Way::Early => conn.say(&format!("* {} EXISTS\r\n+ idling\r\n", post.exists() + 1)).await,
            Way::Lie => conn.say("+ idling\r\n* 9 EXISTS\r\n").await,
            Way::Drop => return conn.say("+ idling\r\n").await,
            Way::Bye => return conn.say("+ idling\r\n* BYE tired\r\n").await,
            Way::Flood => {
                conn.say("+ idling\r\n").await;
                return conn.say(&"* OK still here\r\n".repeat(100_000)).await;
            }
            Way::Chatter => conn.say("+ idling\r\n* OK still\r\n* 0 RECENT\r\n* OK here\r\n").await,
            Way::Honest | Way::Mute | Way::Deaf => conn.say("+ idling\r\n").await,
        }
        loop {
            let came = post.came.notified();
            tokio::select! {
                () = came => if way == Way::Honest {
                    conn.say(&format!("* {} EXISTS\r\n", post.exists())).await;
                },
                done = conn.line() => match done.as_deref() {
                    Some("DONE") if way == Way::Deaf => {}
                    Some("DONE") => break conn.say(&format!("{tag} OK awake\r\n")).await,
                    _ => return,
                },
            }
        }
    }
}

struct Lab {
    _folder: tempfile::TempDir,
    mailbox: Mailbox,
    post: Post,
    log: Log,
}

async fn lab_with(post: Post, way: Way, change: impl Fn(&mut MailSettings)) -> Lab {
    let served = post.clone();
    let (port, log) = serve(move |_, conn| server(conn, served.clone(), way)).await;
    let folder = tempfile::tempdir().unwrap();
    let mut settings = settings("maildir:/nowhere", &format!("imap://box@127.0.0.1:{port}/INBOX"));
    settings.secret = SecretSource::File(secret_file(folder.path(), "hunter2"));
    change(&mut settings);
    Lab { _folder: folder, mailbox: Mailbox::new(settings), post, log }
}

async fn lab(way: Way) -> Lab {
    lab_with(Post::new(0, OFFERS), way, |_| {}).await
}

fn logins(log: &Log) -> usize {
    heard(log).iter().filter(|line| line.contains("AUTHENTICATE")).count()
}

fn idles(log: &Log) -> usize {
    heard(log).iter().filter(|line| line.ends_with(" IDLE")).count()
}

/// True if the mailbox says within `time` that it is time to look.
async fn told_within(mailbox: &mut Mailbox, time: Duration) -> bool {
    tokio::time::timeout(time, mailbox.news()).await.is_ok()
}

const SOON: Duration = Duration::from_secs(5);

#[tokio::test]
async fn a_mail_is_told_of_at_once_over_the_one_connection() {
    let mut lab = lab(Way::Honest).await;
    assert!(!lab.mailbox.listen(), "there is no connection before the first look");
    for n in 0..3 {
        assert_eq!(lab.mailbox.look(10).await.unwrap().len(), 0);
        assert!(lab.mailbox.listen());
        wait_until("it idles", || idles(&lab.log) > n).await;
        assert!(!told_within(&mut lab.mailbox, Duration::from_millis(50)).await, "nothing has come");
        let began = Instant::now();
        lab.post.comes();
        assert!(told_within(&mut lab.mailbox, SOON).await);
        assert!(began.elapsed() < Duration::from_millis(500), "{:?}", began.elapsed());
        let found = lab.mailbox.look(10).await.unwrap();
        lab.mailbox.dispose(&[(found[0].key.clone(), Disposal::Done)]).await.unwrap();
        lab.post.world.lock().unwrap().mails.clear();
    }
    assert_eq!(logins(&lab.log), 1);
}

#[tokio::test]
async fn who_stops_waiting_and_waits_again_misses_nothing() {
    let mut lab = lab(Way::Honest).await;
    lab.mailbox.look(10).await.unwrap();
    assert!(lab.mailbox.listen());
    for _ in 0..50 {
        assert!(!told_within(&mut lab.mailbox, Duration::from_millis(1)).await);
        assert!(lab.mailbox.listen());
    }
    wait_until("it idles", || idles(&lab.log) == 1).await;
    lab.post.comes();
    wait_until("it is told", || heard(&lab.log).iter().any(|line| line == "DONE")).await;
    assert!(told_within(&mut lab.mailbox, SOON).await);
    assert!(told_within(&mut lab.mailbox, SOON).await, "until somebody looks");
    assert_eq!(lab.mailbox.look(10).await.unwrap().len(), 1);
    assert_eq!((logins(&lab.log), idles(&lab.log)), (1, 1));
}

#[tokio::test]
async fn a_mail_that_came_before_the_idle_is_found_without_being_told_of() {
    let mut lab = lab(Way::Mute).await;
    lab.mailbox.look(10).await.unwrap();
    lab.post.comes();
    assert!(lab.mailbox.listen());
    assert!(told_within(&mut lab.mailbox, SOON).await);
    // The next one is never told of, but found when the IDLE is begun anew.
    let short = |settings: &mut MailSettings| settings.timeouts.idle = SHORT;
    let mut lab = lab_with(Post::new(1, OFFERS), Way::Mute, short).await;
    lab.mailbox.look(10).await.unwrap();
    assert!(lab.mailbox.listen());
    wait_until("it idles", || idles(&lab.log) == 1).await;
    lab.post.comes();
    assert!(told_within(&mut lab.mailbox, SOON).await);
    assert_eq!(logins(&lab.log), 1);
}

#[tokio::test]
async fn a_mail_told_of_before_the_server_has_accepted_counts() {
    let mut lab = lab(Way::Early).await;
    lab.mailbox.look(10).await.unwrap();
    assert!(lab.mailbox.listen());
    assert!(told_within(&mut lab.mailbox, SOON).await);
    assert_eq!(lab.mailbox.look(10).await.unwrap().len(), 0);
    assert_eq!(logins(&lab.log), 1, "the connection is in step");
}

#[tokio::test]
async fn servers_that_cannot_or_will_not_tell_are_polled_as_ever() {
    for way in [Way::Silent, Way::Refuse, Way::Drop, Way::Bye, Way::Deaf, Way::Flood, Way::Mute, Way::Chatter]
    {
        let limits = |settings: &mut MailSettings| {
            settings.timeouts = Timeouts { idle: Duration::from_secs(60), ..Timeouts::all(SHORT) };
        };
        let mut lab = lab_with(Post::new(0, OFFERS), way, limits).await;
        lab.mailbox.look(10).await.unwrap();
        assert!(lab.mailbox.listen());
        wait_until("it idles", || idles(&lab.log) == 1).await;
        assert!(!told_within(&mut lab.mailbox, SHORT).await, "{way:?}");
        lab.post.comes();
        let began = Instant::now();
        assert_eq!(lab.mailbox.look(10).await.unwrap().len(), 1, "{way:?}");
        assert!(began.elapsed() < SOON, "{way:?}: {:?}", began.elapsed());
        assert_eq!(idles(&lab.log), 1, "{way:?}");
    }
}

#[tokio::test]
async fn without_the_offer_or_the_wish_nobody_listens() {
    let mut lab = lab_with(Post::new(0, "IMAP4rev1 AUTH=PLAIN SASL-IR"), Way::Honest, |_| {}).await;
    lab.mailbox.look(10).await.unwrap();
    assert!(!lab.mailbox.listen());
    assert!(!told_within(&mut lab.mailbox, Duration::from_millis(50)).await);
    let mut lab =
        lab_with(Post::new(0, OFFERS), Way::Honest, |settings| settings.extensions.idle = false).await;
    lab.mailbox.look(10).await.unwrap();
    assert!(!lab.mailbox.listen());
    lab.mailbox.look(10).await.unwrap();
    assert_eq!((logins(&lab.log), idles(&lab.log)), (1, 0));
}

#[tokio::test]
async fn a_server_that_cries_wolf_is_believed_ever_later() {
    let mut lab = lab(Way::Lie).await;
    let began = Instant::now();
    let mut told = Vec::new();
    while began.elapsed() < Duration::from_millis(3_500) {
        lab.mailbox.look(10).await.unwrap();
        assert!(lab.mailbox.listen());
        if told_within(&mut lab.mailbox, Duration::from_millis(3_600).saturating_sub(began.elapsed())).await {
            told.push(began.elapsed());
        }
    }
    // At once, a second later, two seconds after that.
    assert!((2..=3).contains(&told.len()), "{told:?}");
    assert_eq!(logins(&lab.log), 1);
}

#[tokio::test]
async fn a_word_of_the_server_while_nothing_is_done_is_no_sign_of_work() {
    let moved = Arc::new(AtomicUsize::new(0));
    let count = moved.clone();
    let told = move |settings: &mut MailSettings| {
        let count = count.clone();
        settings.progress = Progress::to(move || {
            count.fetch_add(1, Ordering::Relaxed);
        });
    };
    let mut lab = lab_with(Post::new(0, OFFERS), Way::Chatter, told).await;
    lab.mailbox.look(10).await.unwrap();
    assert!(moved.load(Ordering::Relaxed) > 0);
    assert!(lab.mailbox.listen());
    let before = moved.load(Ordering::Relaxed);
    wait_until("it idles", || idles(&lab.log) == 1).await;
    assert!(!told_within(&mut lab.mailbox, Duration::from_millis(100)).await);
    assert_eq!(moved.load(Ordering::Relaxed), before);
    lab.mailbox.look(10).await.unwrap();
    assert!(moved.load(Ordering::Relaxed) > before);
}

#[tokio::test]
async fn a_mailbox_that_is_let_go_ends_its_connection() {
    let mut lab = lab(Way::Honest).await;
    lab.mailbox.look(10).await.unwrap();
    assert!(lab.mailbox.listen());
    wait_until("it idles", || idles(&lab.log) == 1).await;
    lab.mailbox.close().await;
    assert!(heard(&lab.log).iter().any(|line| line.ends_with("LOGOUT")), "{:?}", heard(&lab.log));
}
