//! `mailfleet-agent`: the box at a site. Command line and exit codes; the work is in the modules.

#![warn(clippy::print_stdout, clippy::print_stderr, reason = "they panic when their reader is gone")]

#[macro_use]
mod say;

mod alive;
mod deferring;
mod devices;
mod disk;
mod doctor;
mod enrol;
mod exit;
mod home;
mod inbox;
mod keys;
mod leasing;
mod line;
mod parts;
mod post;
mod program;
mod readings;
mod runtime;
mod script;
mod status;
mod stop;
mod system;
mod trial;
mod watch;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context as _;
use clap::{Args, Parser, Subcommand};
use drivers::Profiles;
use tracing::level_filters::LevelFilter;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::{Layer as _, SubscriberExt as _};
use tracing_subscriber::util::SubscriberInitExt as _;

use disk::{Disk, Folders};
use exit::{Outside, Usage};
use home::Home;
use keys::Keys;
use mailfleet_agent::{bent, config, files, lease, ledger, limits, wish};
use readings::Readings;
use runtime::{Mode, Parts, RunError, Shell};
use script::ScriptUser;
use service::{Service, journal};
use shared::error::chain;
use stop::Stop;
use watch::Watcher;

/// Keeps this box updated by mail.
#[derive(Parser)]
#[command(version, about, arg_required_else_help = true)]
struct Cli {
    /// The agent's state folder.
    #[arg(long, env = "MAILFLEET_HOME", default_value = "/var/lib/mailfleet-agent", global = true)]
    home: PathBuf,
    /// What to log to standard error: error, warn, info, debug, or as RUST_LOG says [default: warn; of a
    /// service: info].
    #[arg(long, env = "RUST_LOG", global = true)]
    log: Option<String>,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Set this box up from an invitation and mail the enrolment request.
    #[command(
        after_help = "Example:\n  mailfleet-agent --home /var/lib/mailfleet-agent enrol A0001.invite \\\n    \
        --send smtps://box7@mail.example.com --receive imaps://box7@mail.example.com/INBOX \\\n    \
        --password-file /etc/mailfleet/password --root /opt/box"
    )]
    Enrol(EnrolArgs),
    /// Work: read mail, install, report, until told to stop.
    #[command(after_help = "Example:\n  mailfleet-agent run --once\n\n\
        SIGINT and SIGTERM stop it at once: a script that runs is killed with its programs, and the next start \
        takes its phase back and tries again. So a script does not restart the box itself: it ends `post` or \
        `undo` with exit code 76.")]
    Run {
        /// Do what is due now and exit.
        #[arg(long)]
        once: bool,
    },
    /// Show what the agent is doing.
    #[command(after_help = "Example:\n  mailfleet-agent status --json")]
    Status {
        /// Print one JSON document.
        #[arg(long)]
        json: bool,
    },
    /// Read every module's file and show the version report.
    #[command(after_help = "Example:\n  mailfleet-agent versions")]
    Versions {
        /// Print one JSON document.
        #[arg(long)]
        json: bool,
    },
    /// Keep modules from being replaced for a while, give that back, or show who does.
    #[command(subcommand)]
    Lease(leasing::LeaseCommand),
    /// Put an update off that waits for its time.
    #[command(
        after_help = "Example:\n  mailfleet-agent defer 2h\n\nHow far it can be put off, if at all, the manager has said \
        with its schedule; `mailfleet-agent status` shows what waits."
    )]
    Defer(deferring::DeferArgs),
    /// Cancel an update that has not begun.
    #[command(
        after_help = "Example:\n  mailfleet-agent cancel 3f2a\n\nThe manager hears that it is not wanted here."
    )]
    Cancel(deferring::CancelArgs),
    /// List the devices beside this box, or ask them now.
    #[command(after_help = "Example:\n  mailfleet-agent devices poll mfp-2nd-floor --json")]
    Devices(devices::DevicesArgs),
    /// Show, on trial, that this program can be this box's agent. The agent that runs calls it.
    #[command(hide = true)]
    Trial {
        /// The agent that runs cannot read its mailbox either.
        #[arg(long)]
        mail_is_down: bool,
    },
    /// Check configuration, keys, state, disk, mail and clock; one line each.
    #[command(after_help = "Example:\n  mailfleet-agent doctor")]
    Doctor,
}

#[derive(Args)]
struct EnrolArgs {
    /// The invitation that the manager made.
    file: PathBuf,
    /// Where mail goes out: smtps://, smtp+starttls://, sendmail:, maildir:/ or spool:/.
    #[arg(long, value_name = "URL")]
    send: Option<String>,
    /// Where mail comes in: imaps://, imap+starttls://, pop3s://, pop3+starttls://, maildir:/ or spool:/.
    #[arg(long, value_name = "URL")]
    receive: Option<String>,
    /// File with the mail password, mode 0600.
    #[arg(long, value_name = "FILE")]
    password_file: Option<PathBuf>,
    /// PEM file: trust only these certificate authorities.
    #[arg(long, value_name = "FILE")]
    ca: Option<PathBuf>,
    /// Where modules are installed [default: the folder "root" in the home].
    #[arg(long, value_name = "DIR")]
    root: Option<PathBuf>,
}

fn main() -> ExitCode {
    service::panics::end_the_process();
    let cli = Cli::parse();
    match (start_log(&cli).and_then(|()| work(cli)), say::unwritten()) {
        (Ok(_), Some(err)) => {
            complain(&format!("cannot write to standard output: {err}"));
            ExitCode::from(1)
        }
        (Ok(code), None) => code,
        (Err(err), _) => {
            complain(&format!("{err:#}"));
            ExitCode::from(exit::code(&err))
        }
    }
}

fn complain(text: &str) {
    say::complain(&journal::error_text(&format!("mailfleet-agent: {text}")));
}

/// Calls each printer that is switched off an error, every minute; what of it matters the agent says itself.
const SNMP_LIBRARY: &str = "async_snmp";

/// A service that says nothing when all is well leaves its operator in the dark; a command does not.
fn start_log(cli: &Cli) -> anyhow::Result<()> {
    let default =
        if matches!(cli.command, Command::Run { .. }) && journal::is_service() { "info" } else { "warn" };
    let wanted = cli.log.as_deref().unwrap_or(default);
    // Not `EnvFilter`: its regular expressions are a fifth of the program.
    let mut filter: Targets = wanted
        .parse()
        .map_err(|_| Usage(format!("--log: expected a level such as info, found \"{wanted}\"")))?;
    if !wanted.contains(SNMP_LIBRARY) {
        filter = filter.with_target(SNMP_LIBRARY, LevelFilter::OFF);
    }
    let colours = std::io::IsTerminal::is_terminal(&std::io::stderr());
    // Nobody can be told that nobody reads.
    let log = tracing_subscriber::fmt::layer().with_ansi(colours).with_writer(std::io::stderr);
    let log = log.log_internal_errors(false);
    let registry = tracing_subscriber::registry();
    if journal::is_read() {
        registry.with(log.event_format(journal::Lines::new(true)).with_filter(filter)).init();
    } else {
        registry.with(log.with_filter(filter)).init();
    }
    Ok(())
}

fn work(cli: Cli) -> anyhow::Result<ExitCode> {
    let home = std::path::absolute(&cli.home).with_context(|| format!("{}", cli.home.display()))?;
    let home = Home::new(home);
    // One thread does: the work is one thing after the other, and a small box has little memory.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        match cli.command {
            Command::Enrol(args) => {
                let request = enrol::Request {
                    file: args.file,
                    send: args.send,
                    receive: args.receive,
                    password_file: args.password_file,
                    ca: args.ca,
                    root: args.root,
                };
                enrol::enrol(home, request).await.map(|()| ExitCode::SUCCESS)
            }
            Command::Run { once: true } => run_once(home).await,
            Command::Run { once: false } => run(home).await,
            Command::Status { json } => status::status(&home, json).map(|()| ExitCode::SUCCESS),
            Command::Versions { json } => status::versions(&home, json).map(|()| ExitCode::SUCCESS),
            Command::Lease(command) => leasing::run(&home, command).map(|()| ExitCode::SUCCESS),
            Command::Defer(args) => deferring::defer(&home, &args).map(|()| ExitCode::SUCCESS),
            Command::Cancel(args) => deferring::cancel(&home, &args).map(|()| ExitCode::SUCCESS),
            Command::Devices(args) => devices::run(&home, args).await,
            Command::Trial { mail_is_down } => trial::prove(&home, mail_is_down).await.map(ExitCode::from),
            Command::Doctor => Ok(doctor::doctor(&home).await),
        }
    })
}

/// Everything that `run` needs, with the home locked.
fn open(home: Home, mode: Mode, service: Service) -> anyhow::Result<Shell> {
    // Descriptors that somebody left open in us are no business of the programs that we start.
    close_fds::set_fds_cloexec(3, &[]);
    let config = config::load(&home.config()).map_err(Usage::because)?;
    let script_user = config.script_user.as_deref().map(ScriptUser::find).transpose();
    let script_user = script_user.map_err(Usage::because)?;
    home.create().map_err(Usage::because)?;
    let lock = home.lock().map_err(Usage::because)?;
    let disk = Disk::new(config.root.clone(), Folders::of(&config, script_user.as_ref()));
    let root_lock = disk.lock().map_err(Usage::because)?;
    let loaded = ledger::load(&home.state()).map_err(Usage::because)?;
    let keys = Keys::load(&home, &loaded.state.keys).map_err(Usage::because)?;
    let stop = Stop::on_signals()?;
    let locks = (lock, root_lock);
    let devices = match watch::list(&home.devices()) {
        Ok(devices) => Some(devices),
        // A slip of the pen in this file must not keep a far box from its mail.
        Err(err) => {
            tracing::error!(err = chain(&err), "The devices are not watched");
            None
        }
    };
    let profiles = match watch::profiles(&home.profiles()) {
        Ok(profiles) => profiles,
        // Nor must one in these: the standard tables are read without them, and those that are built in.
        Err(err) => {
            tracing::error!(err = chain(&err), "The site's own profiles of vendors are not used");
            Profiles::read([]).context("the profiles that are built in")?
        }
    };
    let watcher = Watcher::new(devices, profiles, config.rhythm);
    let readings = Readings::open(home.readings(), config.agent.clone(), config.readings_room_bytes);
    let readings = readings.with_context(|| format!("cannot use {}", home.readings().display()))?;
    Ok(Shell::new(Parts {
        config,
        home,
        keys,
        loaded,
        disk,
        script_user,
        locks,
        stop,
        mode,
        service,
        watcher,
        readings,
    }))
}

async fn run(home: Home) -> anyhow::Result<ExitCode> {
    let service = Service::from_env();
    let mut shell = open(home, Mode::Daemon, service.clone())?;
    service.ready();
    let ended = tokio::select! {
        ended = shell.run() => ended,
        never = service.watch() => match never {},
    };
    if let Err(RunError::Become(path)) = ended {
        return Err(program::become_what_is_at(&path));
    }
    service.stopping();
    match ended {
        Ok(()) | Err(RunError::Stopped) => Ok(ExitCode::SUCCESS),
        Err(err) => Err(err.into()),
    }
}

async fn run_once(home: Home) -> anyhow::Result<ExitCode> {
    let summary = match open(home, Mode::Once, Service::default())?.run_once().await {
        Ok(summary) => summary,
        Err(RunError::Stopped) => return Ok(ExitCode::SUCCESS),
        Err(RunError::Become(path)) => return Err(program::become_what_is_at(&path)),
        Err(err) => return Err(err.into()),
    };
    for failure in &summary.failed {
        complain(failure);
    }
    if let Some(why) = summary.unreachable {
        return Err(Outside(format!("the mail is not reachable: {why}")).into());
    }
    Ok(if summary.failed.is_empty() { ExitCode::SUCCESS } else { ExitCode::from(1) })
}
