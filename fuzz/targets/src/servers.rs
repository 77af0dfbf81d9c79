//! What mail servers say, from the greeting to the goodbye. A hostile one, or whoever sits in between, can say
//! anything.

use mailio::replay::{self, Folder, Login};
use mailio::{Attachment, AutoKind, MailError, Outgoing, Sent};
use shared::{EnvelopeId, MailAddress, UnixMillis};
use tokio::runtime::{Builder, Runtime};

use crate::harness::{harmless, take, told};

thread_local! {
    static RUNTIME: Option<Runtime> = Builder::new_current_thread().enable_time().build().ok();
}

pub(crate) fn wait<T>(work: impl Future<Output = T>) -> Option<T> {
    RUNTIME.with(|runtime| Some(runtime.as_ref()?.block_on(work)))
}

/// Replies to one mail: `login and recipients (1)`, then all that the server says.
pub(crate) fn smtp(mut data: &[u8]) -> bool {
    let [mode] = take::<1>(&mut data);
    let login = match mode % 3 {
        0 => None,
        1 => Some(Login::Password),
        _ => Some(Login::Token),
    };
    let address = |n: u8| MailAddress::parse(&format!("box{n}@lab.test")).ok();
    let to: Vec<_> = (0..=(mode / 3) % 4).filter_map(address).collect();
    let Some(from) = address(9) else { return false };
    let mail = Outgoing {
        from,
        to,
        envelope: EnvelopeId([5; 16]),
        subject: "order".to_owned(),
        note: "note".to_owned(),
        date: UnixMillis(0),
        in_reply_to: None,
        auto: AutoKind::Generated,
        attachment: Attachment::Bytes(b".\r\n.".to_vec()),
    };
    match wait(replay::smtp(data, login, &mail)) {
        Some(Ok(sent)) => {
            assert!(!sent.is_empty() && sent.len() <= mail.to.len());
            assert!(sent.first().is_some_and(Option::is_some), "each transaction settles a recipient");
            for sent in sent.iter().flatten() {
                if let Sent::Later(why) | Sent::Never(why) = sent {
                    harmless(&why.to_string());
                    assert!(why.text.len() <= 300, "{why}");
                }
            }
            true
        }
        Some(Err(err)) => {
            told(&err);
            let _ = err.turn();
            false
        }
        None => false,
    }
}

/// Responses of a folder: `login (1)`, then all that the server says. Tags are m1, m2, …
pub(crate) fn imap(mut data: &[u8]) -> bool {
    let (login, mut out) = (login(&mut data), Vec::new());
    let folder = wait(replay::imap(data, login, &mut out));
    folder.is_some_and(|folder| sound(folder, &out, data))
}

/// Answers of a POP3 mailbox: `login (1)`, then all that the server says.
pub(crate) fn pop3(mut data: &[u8]) -> bool {
    let (login, mut out) = (login(&mut data), Vec::new());
    let folder = wait(replay::pop3(data, login, &mut out));
    folder.is_some_and(|folder| sound(folder, &out, data))
}

fn login(data: &mut &[u8]) -> Login {
    let [mode] = take::<1>(data);
    if mode % 2 == 0 { Login::Password } else { Login::Token }
}

/// What must hold of any mailbox.
fn sound(folder: Result<Folder, MailError>, out: &[u8], data: &[u8]) -> bool {
    match folder {
        Ok(folder) => {
            assert!(folder.fetched.len() <= 20 && folder.found.len() <= 20);
            folder.found.iter().for_each(|found| harmless(&found.subject));
            folder.fetched.iter().filter_map(|fetched| fetched.as_ref().err()).for_each(|err| told(err));
            assert!(out.len() <= data.len(), "more attachment than mail");
            true
        }
        Err(err) => {
            told(&err);
            let _ = err.turn();
            false
        }
    }
}
