//! Makes an agent of an invitation: keys, configuration, state, and the first mail.
//!
//! The state is written last: a home without one is not enrolled, and whatever a power cut has left of an
//! earlier try is overwritten.

use std::io::Read as _;
use std::path::{Path, PathBuf};

use agent_core::{KeyName, State};
use anyhow::{Context as _, bail, ensure};
use drivers::Profiles;
use mailio::{Mailbox, ReceiveUrl};
use service::Service;
use shared::Label;
use shared::invitation::Invitation;
use shared::limits::INVITATION_MAX_BYTES;
use shared::message::EnrolRequest;
use zeroize::Zeroizing;

use crate::config::{self, Choices};
use crate::disk::{Disk, Folders};
use crate::exit::{Outside, Usage};
use crate::files::{durable_folder, now};
use crate::home::Home;
use crate::keys::Keys;
use crate::ledger;
use crate::readings::Readings;
use crate::runtime::{Mode, Parts, Shell};
use crate::stop::Stop;
use crate::watch::Watcher;

/// What the command line says.
pub(crate) struct Request {
    pub(crate) file: PathBuf,
    pub(crate) send: Option<String>,
    pub(crate) receive: Option<String>,
    pub(crate) password_file: Option<PathBuf>,
    pub(crate) ca: Option<PathBuf>,
    pub(crate) root: Option<PathBuf>,
}

/// Enrols and mails the request.
pub(crate) async fn enrol(home: Home, request: Request) -> anyhow::Result<()> {
    let invitation = read_invitation(&request.file)?;
    let home_path = home.path().to_owned();
    ensure!(
        now() <= invitation.expires,
        Usage(format!(
            "{}: the invitation expired at {}: ask the manager for a new one",
            request.file.display(),
            invitation.expires
        ))
    );
    home.create().map_err(Usage::because)?;
    let lock = home.lock().map_err(Usage::because)?;
    if home.state().exists() {
        bail!(Usage(format!(
            "{} is already enrolled (it holds a state): expected an empty home; use another --home, or remove \
             this one to enrol anew",
            home_path.display()
        )));
    }
    let choices = choices(&home, request)?;
    durable_folder(&choices.root, 0o777)
        .with_context(|| format!("cannot make the root folder {}", choices.root.display()))?;
    let config =
        config::write(&home.config(), &config::new_text(&invitation, choices)).map_err(Usage::because)?;
    // The manager may answer before this agent looks for the first time.
    if let ReceiveUrl::Spool(spool) = &config.mail.receive {
        Mailbox::create_spool(spool, &config.mail.address).map_err(Usage::because)?;
    }
    let disk = Disk::new(config.root.clone(), Folders::of(&config, None));
    let root_lock = disk.lock().map_err(Usage::because)?;
    let keys = Keys::create(&home)?;
    let pair = keys.pair(KeyName::First).context("the new keys are not there")?;
    // PROTOCOL 9.2: the agent's own keys, made here.
    let message = EnrolRequest {
        agent: invitation.agent.clone(),
        secret: *invitation.secret,
        sign_key: pair.sign.verifying_key().to_bytes(),
        seal_key: pair.open.sealing_key().to_bytes(),
        mail: invitation.mail.clone(),
        agent_version: Label::lossy(env!("CARGO_PKG_VERSION")),
    };
    ledger::save(
        &home.state(),
        &State::enrolling(message, invitation.created, invitation.trust.clone()).encode(),
    )?;
    say!("Agent {} is set up in {}.", invitation.agent, home_path.display());

    let loaded = ledger::load(&home.state())?;
    let stop = Stop::on_signals()?;
    let service = Service::default();
    // Nobody is told of devices before the manager knows the agent.
    let watcher = Watcher::new(Some(Vec::new()), Profiles::default(), config.rhythm);
    let readings = Readings::open(home.readings(), config.agent.clone(), config.readings_room_bytes)?;
    let mut shell = Shell::new(Parts {
        config,
        home,
        keys,
        loaded,
        disk,
        // It runs no script yet.
        script_user: None,
        locks: (lock, root_lock),
        stop,
        mode: Mode::Once,
        service,
        watcher,
        readings,
    });
    let summary = shell.start().await?;
    if let Some(why) = summary.unreachable.or_else(|| summary.failed.into_iter().next()) {
        bail!(Outside(format!(
            "the enrolment request is not mailed yet ({why}); mailfleet-agent run will send it"
        )));
    }
    say!("The enrolment request is mailed to {}.", invitation.manager);
    Ok(())
}

fn choices(home: &Home, request: Request) -> anyhow::Result<Choices> {
    let url = |name: &str, example: &str, url: Option<String>| {
        url.ok_or_else(|| Usage(format!("expected --{name} URL, for example --{name} {example}")))
    };
    let absolute =
        |path: PathBuf| std::path::absolute(&path).map_err(|err| Usage(format!("{}: {err}", path.display())));
    Ok(Choices {
        send: url("send", "smtps://box7@mail.example.com", request.send)?,
        receive: url("receive", "imaps://box7@mail.example.com/INBOX", request.receive)?,
        ca: request.ca.map(absolute).transpose()?,
        password_file: request.password_file.map(absolute).transpose()?,
        root: absolute(request.root.unwrap_or_else(|| home.path().join("root")))?,
    })
}

fn read_invitation(path: &Path) -> anyhow::Result<Invitation> {
    let failed = |err: std::io::Error| Usage(format!("cannot read the invitation {}: {err}", path.display()));
    let mut text = Zeroizing::new(String::new());
    let file = std::fs::File::open(path).map_err(failed)?;
    file.take(INVITATION_MAX_BYTES.saturating_add(1)).read_to_string(&mut text).map_err(failed)?;
    let parsed = Invitation::parse(&text);
    Ok(parsed.map_err(|err| Usage(format!("{}: {}", path.display(), shared::error::chain(&err))))?)
}
