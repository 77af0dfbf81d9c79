//! `init`: makes a manager's home. Refuses one that is there.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use mailfleet::config::{Choices, Config, new_text};
use mailfleet::home::Home;
use mailfleet::store::Store;
use mailio::config::ConfigError;
use mailio::{Mailbox, ReceiveUrl};

use super::args::Init;
use super::fail::{Done, Fail, Kind, Next as _, OrFail as _, Outcome};
use super::{audited, open, show};

pub(crate) fn init(home: Option<&Path>, args: &Init) -> Outcome {
    let dir = absolute(&open::home_path(home)?)?;
    let text = new_text(&Choices {
        address: args.address.clone(),
        send: args.send.clone(),
        receive: args.receive.clone(),
        ca: args.ca.as_deref().map(existing).transpose()?,
        password_file: args.password_file.as_deref().map(existing).transpose()?,
    });
    // Checked before anything is made, so that a slip in a URL leaves no half-made home.
    let config = Config::parse(Path::new("the command line"), &text).map_err(config_failed)?;
    let home = Home::create(&dir, &text).map_err(open::home_failed)?;
    // A folder that was there before may be open to others.
    fs::set_permissions(&dir, fs::Permissions::from_mode(0o700))
        .or_outside(format!("cannot close {}", dir.display()))?;
    let mut store = Store::create(&home.store_path()).map_err(open::store_failed)?;
    audited::note(&mut store, format!("manager {} made", config.mail.address)).map_err(open::store_failed)?;
    if let ReceiveUrl::Spool(spool) = &config.mail.receive {
        let what = format!("cannot make the mailbox of {} in {}", config.mail.address, spool.display());
        Mailbox::create_spool(spool, &config.mail.address).or_outside(what)?;
    }
    let key = home.release_key(None).map_err(open::home_failed)?.verifying_key().key_id();
    show::print(&format!(
        "Made the manager {} in {dir}\n\
         Release key {key}: {dir}/release.key signs bundles; anyone who has it can make one.\n\
         Better: move it to a machine that is offline, build there with --release-key, and delete it here.\n\
         Next: mailfleet --home {dir} doctor\n      \
         mailfleet --home {dir} agent add ID --mail ADDRESS\n",
        config.mail.address,
        dir = dir.display(),
    ))?;
    Ok(Done::All)
}

/// The daemon may be started in another folder, so paths in the configuration are absolute.
fn absolute(path: &Path) -> Result<PathBuf, Fail> {
    std::path::absolute(path).or_usage(format!("cannot use the path {}", path.display()))
}

fn existing(path: &Path) -> Result<PathBuf, Fail> {
    fs::metadata(path)
        .or_usage(format!("cannot read {}", path.display()))
        .next("write the file first; it may be changed later")?;
    absolute(path)
}

fn config_failed(err: ConfigError) -> Fail {
    match err {
        ConfigError::Value { setting, why, .. } => Fail::usage(format!("--{setting}: {why}")),
        ConfigError::Io(..) | ConfigError::Toml(..) => Fail::plain(Kind::Usage, err),
    }
}
