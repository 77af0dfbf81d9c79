//! Every command, option and help text. Says what can be typed; does nothing. The names are a promise to
//! users' scripts: `fixtures/golden/help.out` holds each of them.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};
use shared::keys::VerifyingKey;
use shared::time::parse_duration;
use shared::{AgentId, Digest, KeyId, Label, MailAddress, UnixMillis};

use super::device_args::{
    DeviceTermsArgs, Devices, Faults, ReportDeviceCampaign, ReportDevices, ReportReadings, ReportSupplies,
    ReportVerify,
};
use super::device_list::DeviceRef;
use super::rollout_args::RolloutArgs;

/// Keep a fleet of remote agents up to date over e-mail alone.
#[derive(Debug, Parser)]
#[command(
    name = "mailfleet",
    version,
    max_term_width = 100,
    arg_required_else_help = true,
    after_help = "Exit codes: 0 done; 1 done, but something failed that the output names; 2 wrong usage or \
                  configuration; 3 the outside is not reachable (mail server, database).\n\n\
                  Example:\n  mailfleet --home /var/lib/mailfleet doctor"
)]
pub(crate) struct Cli {
    /// The manager's state folder
    #[arg(long, global = true, value_name = "DIR", env = "MAILFLEET_HOME", hide_env_values = true)]
    pub(crate) home: Option<PathBuf>,
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Make a new manager: home folder, settings, keys, database
    #[command(after_help = "Example:\n  mailfleet --home fleet init --address manager@lab.test \\\n      \
                            --send smtps://manager@mail.lab.test:465 \\\n      \
                            --receive imaps://manager@mail.lab.test/INBOX --password-file /etc/mailfleet/password")]
    Init(Init),
    /// Check configuration, keys, store, mail out, mail in and clock; one line each
    #[command(after_help = "Example:\n  mailfleet doctor --json")]
    Doctor(Doctor),
    /// Add, list and remove agents
    #[command(subcommand, after_help = "Example:\n  mailfleet agent list")]
    Agent(Agent),
    /// Build and inspect update bundles
    #[command(
        subcommand,
        after_help = "Example:\n  mailfleet bundle build office-gateway-1.0.02 -o gateway.mfb"
    )]
    Bundle(Bundle),
    /// Bring agents to a Software Version, and follow it
    #[command(subcommand, after_help = "Example:\n  mailfleet campaign show 1")]
    Campaign(Campaign),
    /// Ask agents what they have installed, or for the counters of their devices
    #[command(subcommand, after_help = "Example:\n  mailfleet query versions --all --wait")]
    Query(Query),
    /// List the faults of devices: those that last, or all
    #[command(
        after_help = "Classes: A unusable until service comes; B one function is unusable; C logged only; D unusable \
                            until it is switched off and on.\n\nExample:\n  mailfleet faults --site 'Tokyo*' --class A,D"
    )]
    Faults(Faults),
    /// List the devices behind the agents, as they were last known
    #[command(after_help = "Example:\n  mailfleet devices --agent A0001")]
    Devices(Devices),
    /// Whom the agents trust: list the keys, change them
    #[command(
        subcommand,
        after_help = "A change is proposed here, signed with release keys (on the offline machine that holds them), and \
                      accepted here; every mail then brings it to the agents.\n\nExample:\n  \
                      mailfleet keys propose --new-order-key -o next.trust\n  \
                      mailfleet keys sign next.trust --release-key release.key\n  mailfleet keys accept next.trust"
    )]
    Keys(Keys),
    /// Write who did what, when, as CSV; or check that the log is the one that was written
    #[command(
        args_conflicts_with_subcommands = true,
        after_help = "Example:\n  mailfleet audit --since 2026-11-01 -o audit.csv"
    )]
    Audit(Audit),
    /// The daemon: mail in, decide, mail out
    #[command(
        after_help = "Ctrl-C stops it; it can be stopped or killed at any moment, and goes on where it was.\n\n\
                            Example:\n  mailfleet run --once"
    )]
    Run(Run),
    /// Write what is known as CSV
    #[command(subcommand, after_help = "Example:\n  mailfleet report versions -o versions.csv")]
    Report(Report),
}

#[derive(Debug, Args)]
pub(crate) struct Init {
    /// The manager's own mail address; reports come to it
    #[arg(long, value_name = "ADDRESS", value_parser = MailAddress::parse)]
    pub(crate) address: MailAddress,
    /// How mail goes out: smtps://user@host:465, smtp+starttls://user@host:587, sendmail:, spool:/path
    #[arg(long, value_name = "URL")]
    pub(crate) send: String,
    /// How mail comes in: imaps://user@host/INBOX, imap+starttls://…, pop3s://user@host, maildir:/path, spool:/path
    #[arg(long, value_name = "URL")]
    pub(crate) receive: String,
    /// Trust this CA (PEM) and no other
    #[arg(long, value_name = "FILE")]
    pub(crate) ca: Option<PathBuf>,
    /// File (mode 0600) whose first line is the mail password
    #[arg(long, value_name = "FILE")]
    pub(crate) password_file: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct Doctor {
    #[command(flatten)]
    pub(crate) format: Format,
}

/// How results are printed.
#[derive(Clone, Copy, Debug, Args)]
pub(crate) struct Format {
    /// Print one JSON document
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Agent {
    /// Add one agent and write its invitation
    #[command(after_help = "Adding the same agent again with the same data changes nothing.\n\nExample:\n  \
                            mailfleet agent add A0001 --mail box1@lab.test --class office-gateway --site Tokyo")]
    Add(AgentAdd),
    /// Add agents from a CSV file (columns id,mail,class,site,note,admin) and write their invitations
    #[command(
        after_help = "All rows are checked first; if one is bad, none is imported. Several classes in a cell \
                            are separated by ';'. An interrupted import can be run again.\n\nExample:\n  \
                            mailfleet agent import agents.csv -o invites"
    )]
    Import(AgentImport),
    /// Write all agents as CSV, with the keys of those that are enrolled
    #[command(after_help = "Example:\n  mailfleet agent export -o agents.csv")]
    Export(AgentExport),
    /// Let a manager that only listens know the agents of another
    #[command(
        after_help = "The file is the other manager's `agent export`. Run it again when agents were added or have new keys. \
                            Needs listens_only = true in manager.toml.\n\nExample:\n  mailfleet --home desk agent introduce agents.csv"
    )]
    Introduce(AgentIntroduce),
    /// Write a new invitation for an agent whose box is replaced; the old one no longer counts
    #[command(after_help = "Example:\n  mailfleet agent invite A0001 -o A0001.invite")]
    Invite(AgentInvite),
    /// List all agents, or those that match
    #[command(
        after_help = "Example:\n  mailfleet agent list --where 'version < 1.0.02-0 and site ~ \"Osaka*\"'"
    )]
    List(AgentList),
    /// Write down other facts of agents: class, site, note, admin, vendor, tag, zone, window, consent, language, fallback_mail, attr.NAME
    #[command(
        after_help = "Several classes or tags are separated by ';'; an empty value takes a fact away. A window is a time of the day \
                            in the agent's zone, with days if wanted: '22:00-05:00 mon-fri'. consent is ask, always or never. \
                            fallback_mail is where an agent gets an order that its own address does not take. \
                            pardon=now lets an agent that failed too often take part again.\n\nExample:\n  \
                            mailfleet agent set --where 'site = Tokyo*' zone=Asia/Tokyo 'window=22:00-05:00 mon-fri'"
    )]
    Set(AgentSet),
    /// Show everything known of one agent
    #[command(after_help = "Example:\n  mailfleet agent show A0001")]
    Show(AgentShow),
    /// Ask agents to make new keys of their own; the old ones count until the new ones are in use
    #[command(
        after_help = "Agents that do not answer are asked again each week. Who holds a box's keys can answer in its place: \
                            one whose keys were stolen needs a new invitation (agent invite), not this.\n\nExample:\n  \
                            mailfleet agent rekey --where 'class=office-gateway'"
    )]
    Rekey(AgentRekey),
    /// Remove an agent: it gets no more orders, its reports no longer count
    #[command(after_help = "Example:\n  mailfleet agent remove A0001")]
    Remove(AgentRemove),
}

#[derive(Debug, Args)]
pub(crate) struct AgentAdd {
    /// The agent's ID: letters, digits, '-', '_', '.'
    #[arg(value_parser = AgentId::parse)]
    pub(crate) id: AgentId,
    /// Where the agent reads its mail
    #[arg(long, value_name = "ADDRESS", value_parser = MailAddress::parse)]
    pub(crate) mail: MailAddress,
    /// A class it belongs to; can be given several times
    #[arg(long = "class", value_name = "C", value_parser = Label::parse)]
    pub(crate) classes: Vec<Label>,
    /// Where it stands
    #[arg(long, value_name = "NAME", default_value = "", hide_default_value = true, value_parser = Label::parse)]
    pub(crate) site: Label,
    /// A note, such as the customer's name
    #[arg(long, value_name = "TEXT", default_value = "", hide_default_value = true, value_parser = Label::parse)]
    pub(crate) note: Label,
    /// Mail address of the site's administrator
    #[arg(long, value_name = "ADDRESS", value_parser = MailAddress::parse)]
    pub(crate) admin: Option<MailAddress>,
    /// Another fact, as `agent set` takes it: vendor, tag, zone, window, consent, language, fallback_mail, attr.NAME
    #[arg(long = "set", value_name = "KEY=VALUE")]
    pub(crate) terms: Vec<String>,
    /// The invitation file [default: ID.invite]
    #[arg(short, long = "output", value_name = "FILE")]
    pub(crate) output: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct AgentList {
    /// Only agents that match, such as 'class=office-gateway and site=Tokyo*'
    #[arg(long = "where", value_name = "EXPR")]
    pub(crate) expression: Option<String>,
    #[command(flatten)]
    pub(crate) format: Format,
}

#[derive(Debug, Args)]
pub(crate) struct AgentSet {
    #[command(flatten)]
    pub(crate) selection: Selection,
    /// What to write down
    #[arg(value_name = "KEY=VALUE", required = true)]
    pub(crate) facts: Vec<String>,
}

#[derive(Debug, Args)]
pub(crate) struct AgentImport {
    /// The CSV file
    #[arg(value_name = "FILE.csv")]
    pub(crate) file: PathBuf,
    /// The folder for the invitation files, one ID.invite each
    #[arg(short, long = "output", value_name = "DIR")]
    pub(crate) output: PathBuf,
}

#[derive(Debug, Args)]
pub(crate) struct AgentExport {
    /// The file to write [default: standard output]
    #[arg(short, long = "output", value_name = "FILE.csv")]
    pub(crate) output: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct AgentIntroduce {
    /// The CSV file
    #[arg(value_name = "FILE.csv")]
    pub(crate) file: PathBuf,
}

#[derive(Debug, Args)]
pub(crate) struct AgentInvite {
    /// The agent's ID
    #[arg(value_parser = AgentId::parse)]
    pub(crate) id: AgentId,
    /// The invitation file [default: ID.invite]
    #[arg(short, long = "output", value_name = "FILE")]
    pub(crate) output: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct AgentShow {
    /// The agent's ID
    #[arg(value_parser = AgentId::parse)]
    pub(crate) id: AgentId,
    #[command(flatten)]
    pub(crate) format: Format,
}

#[derive(Debug, Args)]
pub(crate) struct AgentRekey {
    #[command(flatten)]
    pub(crate) selection: Selection,
    #[command(flatten)]
    pub(crate) format: Format,
}

#[derive(Debug, Args)]
pub(crate) struct AgentRemove {
    /// The agent's ID
    #[arg(value_parser = AgentId::parse)]
    pub(crate) id: AgentId,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Bundle {
    /// Build and sign a bundle from a folder that holds bundle.toml and the files it names
    #[command(after_help = "Example:\n  mailfleet bundle build office-gateway-1.0.02 -o gateway.mfb")]
    Build(BundleBuild),
    /// Show a bundle's manifest, sizes and signature
    #[command(after_help = "Example:\n  mailfleet bundle inspect gateway.mfb --json")]
    Inspect(BundleInspect),
    /// Add a release key's signature to a bundle: where several must sign
    #[command(
        after_help = "Example:\n  mailfleet bundle sign gateway.mfb --release-key /media/stick/release.key"
    )]
    Sign(BundleSign),
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum CompressionArg {
    /// Small; needs 8 MiB of memory on the box
    Zstd,
    /// For boxes with very little memory
    Deflate,
}

#[derive(Debug, Args)]
pub(crate) struct BundleBuild {
    /// The folder
    pub(crate) dir: PathBuf,
    /// The bundle to write
    #[arg(short, long = "output", value_name = "FILE.mfb")]
    pub(crate) output: PathBuf,
    /// How to compress
    #[arg(long, value_enum, default_value = "zstd")]
    pub(crate) compression: CompressionArg,
    /// How hard to compress: zstd 1 to 22 [default: 19], deflate 1 to 9 [default: 9]
    #[arg(long, value_name = "N")]
    pub(crate) level: Option<i32>,
    /// Add a delta from this older bundle, for agents that have its files; can be repeated
    #[arg(long, value_name = "OLD.mfb")]
    pub(crate) from: Vec<PathBuf>,
    /// Sign with this release key [default: release.key in the home]
    #[arg(long, value_name = "FILE")]
    pub(crate) release_key: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct BundleSign {
    /// The bundle; the signature is added to it
    #[arg(value_name = "FILE.mfb")]
    pub(crate) file: PathBuf,
    /// Sign with this release key [default: release.key in the home]
    #[arg(long, value_name = "FILE")]
    pub(crate) release_key: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Keys {
    /// Show the trust in force, and how many agents hold it
    #[command(after_help = "Example:\n  mailfleet keys list --json")]
    List(Doctor),
    /// Write a change of the trust to a file, for release keys to sign
    #[command(
        after_help = "Dropping an order key that was stolen also undoes what its thief could raise at the agents \
                            (far-off times and numbers).\n\nExample:\n  \
                            mailfleet keys propose --new-order-key --drop-order-key 694046f94bbbd8e5 -o next.trust"
    )]
    Propose(KeysPropose),
    /// Add a release key's signature to a change; needs no home
    #[command(
        after_help = "Example:\n  mailfleet keys sign next.trust --release-key /media/stick/release.key"
    )]
    Sign(KeysSign),
    /// Put a signed change into force; the daemon must not run
    #[command(after_help = "Example:\n  mailfleet keys accept next.trust")]
    Accept(KeysAccept),
    /// Make a new release key: the secret half in FILE, the public half printed; needs no home
    #[command(after_help = "Example:\n  mailfleet keys new-release -o /media/stick/release-2.key")]
    NewRelease(KeysNewRelease),
}

#[derive(Debug, Args)]
pub(crate) struct KeysPropose {
    /// Make a new order key, which signs from then on; the old ones still count
    #[arg(long)]
    pub(crate) new_order_key: bool,
    /// This order key counts no more: orders signed by it that are still on their way are refused
    #[arg(long = "drop-order-key", value_name = "KEY-ID", value_parser = KeyId::parse_hex)]
    pub(crate) drop_order_keys: Vec<KeyId>,
    /// Make a new opening key, which reports are sealed to from then on
    #[arg(long)]
    pub(crate) new_opening_key: bool,
    /// This release key (ed25519:...) signs too
    #[arg(long = "add-release-key", value_name = "KEY", value_parser = VerifyingKey::parse_text)]
    pub(crate) add_release_keys: Vec<VerifyingKey>,
    /// This release key signs no more
    #[arg(long = "drop-release-key", value_name = "KEY-ID", value_parser = KeyId::parse_hex)]
    pub(crate) drop_release_keys: Vec<KeyId>,
    /// So many release keys must sign bundles and changes
    #[arg(long, value_name = "N")]
    pub(crate) threshold: Option<u8>,
    /// The file to write
    #[arg(short, long = "output", value_name = "FILE.trust")]
    pub(crate) output: PathBuf,
}

#[derive(Debug, Args)]
pub(crate) struct KeysSign {
    /// The change
    #[arg(value_name = "FILE.trust")]
    pub(crate) file: PathBuf,
    /// Sign with this release key [default: release.key in the home]
    #[arg(long, value_name = "FILE")]
    pub(crate) release_key: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct KeysAccept {
    /// The change; several copies that were signed apart are joined
    #[arg(value_name = "FILE.trust", required = true)]
    pub(crate) files: Vec<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct KeysNewRelease {
    /// The file to write (mode 0600)
    #[arg(short, long = "output", value_name = "FILE")]
    pub(crate) output: PathBuf,
}

#[derive(Debug, Args)]
pub(crate) struct BundleInspect {
    /// The bundle
    #[arg(value_name = "FILE.mfb")]
    pub(crate) file: PathBuf,
    #[command(flatten)]
    pub(crate) format: Format,
}

/// Chooses agents.
#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
pub(crate) struct Selection {
    /// Every enrolled agent
    #[arg(long)]
    pub(crate) all: bool,
    /// These agents
    #[arg(long = "agent", value_name = "ID,...", value_delimiter = ',', value_parser = AgentId::parse)]
    pub(crate) agents: Vec<AgentId>,
    /// The agents in this file, one ID a line; '#' begins a comment
    #[arg(long, value_name = "FILE")]
    pub(crate) agents_file: Option<PathBuf>,
    /// Agents that match, such as 'class=office-gateway and site=Tokyo*'
    #[arg(long = "where", value_name = "EXPR")]
    pub(crate) expression: Option<String>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Campaign {
    /// Send a bundle to agents, ask for their versions after its settle time, and compare
    #[command(after_help = "Without --wait, the daemon (mailfleet run) does the work.\n\nExample:\n  \
                            mailfleet campaign start gateway.mfb --where 'class=office-gateway' --name spring --wait")]
    #[command(
        mut_group("Selection", |group| group.required(false)),
        override_usage = "mailfleet campaign start [OPTIONS] <--all|--agent <ID,...>|--agents-file <FILE>|--where <EXPR>> \
                          <FILE.mfb>\n       mailfleet campaign start [OPTIONS] --plan <N>"
    )]
    Start(Box<CampaignStart>),
    /// Show what a campaign would send, when and to whom, and keep that plan for `campaign start --plan N`
    #[command(
        after_help = "Example:\n  mailfleet campaign plan gateway.mfb --all --test A0001 --waves 10,5%,rest --windows"
    )]
    Plan(Box<CampaignPlan>),
    /// List all campaigns
    #[command(after_help = "Example:\n  mailfleet campaign list")]
    List(Doctor),
    /// Show a campaign's targets, with one reason for each that is not verified
    #[command(
        after_help = "Example:\n  mailfleet campaign show 1 --json\n  mailfleet campaign show 1 --devices"
    )]
    Show(CampaignShow),
    /// Follow a campaign until it ends; does the daemon's work when none runs
    #[command(
        after_help = "Ctrl-C stops the watching, not the campaign.\n\nExample:\n  mailfleet campaign watch 1"
    )]
    Watch(CampaignId),
    /// Stop mailing for a while: what is on its way goes on, answers are taken
    #[command(after_help = "Example:\n  mailfleet campaign pause 1 --reason 'a fair at two sites'")]
    Pause(CampaignHold),
    /// Stop, and call back what has not begun on an agent
    #[command(after_help = "Example:\n  mailfleet campaign halt 1 --reason 'customers call'")]
    Halt(CampaignHold),
    /// Let nothing begin on single devices for now: what is under way there goes to its end
    #[command(
        after_help = "`campaign resume N --device` ends it; `campaign pause` and `halt` are for the whole campaign.\n\n\
                      Example:\n  mailfleet campaign suspend 1 --device A0001/mfp-2nd-floor"
    )]
    Suspend(CampaignDevices),
    /// Go on after a pause or a halt: failures so far are accepted, what was called back is mailed again
    #[command(
        after_help = "With --device, only these devices go on, after they were suspended or cancelled.\n\n\
                      Example:\n  mailfleet campaign resume 1"
    )]
    Resume(CampaignOrDevices),
    /// Permit another transfer of firmware to devices whose update has failed or is unknown
    #[command(
        after_help = "Look at the device first: what is sent to it while it flashes may destroy it.\n\n\
                      Example:\n  mailfleet campaign permit 1 --device A0001/mfp-2nd-floor"
    )]
    Permit(CampaignDevices),
    /// Open the gate that is awaited, whatever it asks for
    #[command(after_help = "Example:\n  mailfleet campaign skip 1")]
    Skip(CampaignId),
    /// Send the bundle again to the targets that failed, and only to them
    #[command(after_help = "Example:\n  mailfleet campaign retry 1")]
    Retry(CampaignId),
    /// Stop a campaign: what has not begun on an agent is called back
    #[command(after_help = "With --device, only these devices are taken out, and the campaign goes on.\n\n\
                      Example:\n  mailfleet campaign cancel 1")]
    Cancel(CampaignOrDevices),
}

#[derive(Debug, Args)]
pub(crate) struct CampaignStart {
    /// The bundle
    #[arg(value_name = "FILE.mfb", required_unless_present = "plan")]
    pub(crate) file: Option<PathBuf>,
    /// Start what `campaign plan` has laid out, exactly as it was shown
    #[arg(long, value_name = "N", conflicts_with_all = ["file", "Selection", "RolloutArgs", "CampaignTerms", "DeviceTermsArgs"])]
    pub(crate) plan: Option<u32>,
    #[command(flatten)]
    pub(crate) selection: Option<Selection>,
    #[command(flatten)]
    pub(crate) terms: CampaignTerms,
    #[command(flatten)]
    pub(crate) rollout: RolloutArgs,
    #[command(flatten)]
    pub(crate) devices: DeviceTermsArgs,
    /// Stay until every target has an end state; does the daemon's work when none runs
    #[arg(long)]
    pub(crate) wait: bool,
}

#[derive(Debug, Args)]
pub(crate) struct CampaignPlan {
    /// The bundle
    #[arg(value_name = "FILE.mfb")]
    pub(crate) file: PathBuf,
    #[command(flatten)]
    pub(crate) selection: Selection,
    #[command(flatten)]
    pub(crate) terms: CampaignTerms,
    #[command(flatten)]
    pub(crate) rollout: RolloutArgs,
    #[command(flatten)]
    pub(crate) devices: DeviceTermsArgs,
    #[command(flatten)]
    pub(crate) format: Format,
}

#[derive(Debug, Args)]
pub(crate) struct CampaignHold {
    /// The campaign's number
    #[arg(value_name = "N")]
    pub(crate) number: u32,
    /// Why, for those who look later
    #[arg(long, value_name = "TEXT", default_value = "", hide_default_value = true, value_parser = Label::parse)]
    pub(crate) reason: Label,
}

/// What a campaign is called and how patient it is.
#[derive(Debug, Args)]
pub(crate) struct CampaignTerms {
    /// A name for people
    #[arg(long, value_name = "N", default_value = "", hide_default_value = true, value_parser = Label::parse)]
    pub(crate) name: Label,
    /// Wait this long after the mailing before asking for versions [default: the bundle's, else 10m]
    #[arg(long, value_name = "TIME", value_parser = parse_duration)]
    pub(crate) settle: Option<Duration>,
    /// Wait this long for an answer
    #[arg(long, value_name = "TIME", default_value = "30m", value_parser = parse_duration)]
    pub(crate) reply_timeout: Duration,
    /// Send again to failed targets this many times
    #[arg(long, value_name = "N", default_value_t = 2)]
    pub(crate) retries: u32,
}

#[derive(Debug, Args)]
pub(crate) struct CampaignId {
    /// The campaign's number
    #[arg(value_name = "N")]
    pub(crate) number: u32,
}

/// Devices of a campaign.
#[derive(Debug, Args)]
pub(crate) struct CampaignDevices {
    /// The campaign's number
    #[arg(value_name = "N")]
    pub(crate) number: u32,
    /// These devices
    #[arg(long = "device", value_name = "AGENT/DEVICE,...", value_delimiter = ',', required = true, value_parser = DeviceRef::parse)]
    pub(crate) devices: Vec<DeviceRef>,
}

/// A campaign, or devices of it.
#[derive(Debug, Args)]
pub(crate) struct CampaignOrDevices {
    /// The campaign's number
    #[arg(value_name = "N")]
    pub(crate) number: u32,
    /// Only these devices
    #[arg(long = "device", value_name = "AGENT/DEVICE,...", value_delimiter = ',', value_parser = DeviceRef::parse)]
    pub(crate) devices: Vec<DeviceRef>,
}

#[derive(Debug, Args)]
pub(crate) struct CampaignShow {
    /// The campaign's number
    #[arg(value_name = "N")]
    pub(crate) number: u32,
    /// Show how the firmware of its devices goes
    #[arg(long)]
    pub(crate) devices: bool,
    #[command(flatten)]
    pub(crate) format: Format,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Query {
    /// Ask agents for every module's version
    #[command(after_help = "Example:\n  mailfleet query versions --agent A0001,A0002 --wait")]
    Versions(QueryArgs),
    /// Ask agents for the counters that they have collected and not sent yet
    #[command(
        after_help = "Agents send them by themselves as well; this is for the day of the bill.\n\nExample:\n  \
                            mailfleet query counters --where 'site=Tokyo*' --wait"
    )]
    Counters(QueryArgs),
}

#[derive(Debug, Args)]
pub(crate) struct QueryArgs {
    #[command(flatten)]
    pub(crate) selection: Selection,
    /// Wait this long for an answer
    #[arg(long, value_name = "TIME", default_value = "30m", value_parser = parse_duration)]
    pub(crate) reply_timeout: Duration,
    /// Stay until every agent has answered or the time is over; does the daemon's work when none runs
    #[arg(long)]
    pub(crate) wait: bool,
    #[command(flatten)]
    pub(crate) format: Format,
}

#[derive(Debug, Args)]
pub(crate) struct Run {
    /// Do what is due and exit
    #[arg(long)]
    pub(crate) once: bool,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Report {
    /// The newest version report of each agent, one row per module
    #[command(after_help = "Example:\n  mailfleet report versions -o versions.csv --since 2026-11-01")]
    Versions(ReportOutput),
    /// A campaign's targets, one row each
    #[command(after_help = "Example:\n  mailfleet report campaign 1 -o campaign.csv")]
    Campaign(ReportCampaign),
    /// The firmware of a campaign's devices, one row for each device and type
    #[command(
        after_help = "--since keeps what was heard since.\n\nExample:\n  mailfleet report devices-campaign 1 --site 'Tokyo*' -o updates.csv"
    )]
    DevicesCampaign(ReportDeviceCampaign),
    /// Faults of devices, one row each from beginning to end
    #[command(after_help = "--since keeps what was reported, or has ended, since.\n\nExample:\n  \
                      mailfleet report faults --since 2026-11-01 -o faults.csv")]
    Faults(ReportDevices),
    /// Counters of devices, one row for each counter of each reading
    #[command(
        after_help = "The rows are made of the signed readings. What does not follow from the reading before is marked in \
                      the column anomaly, never smoothed.\n\nExample:\n  \
                      mailfleet report counters --site 'Tokyo*' --since 2026-11-01 -o counters.csv"
    )]
    Counters(ReportDevices),
    /// Devices as they were last known, one row each
    #[command(after_help = "Example:\n  mailfleet report devices -o devices.csv")]
    Devices(ReportDevices),
    /// Supplies as they were last read, with the day when they run out
    #[command(
        after_help = "The day is on a straight line through the levels since the supply was filled last, 120 days at most. \
                      Levels that are no numbers stay words.\n\nExample:\n  \
                      mailfleet report supplies --within 14d -o supplies.csv"
    )]
    Supplies(ReportSupplies),
    /// Parts that wear out, with their use and life
    #[command(after_help = "Example:\n  mailfleet report parts -o parts.csv")]
    Parts(ReportDevices),
    /// Write the signed readings themselves, for somebody who wants to prove a bill
    #[command(after_help = "`mailfleet agent show ID` says which key has signed them.\n\nExample:\n  \
                      mailfleet report readings --agent A0001 -o A0001.readings")]
    Readings(ReportReadings),
    /// Prove readings: signatures, and that none was taken out or put in
    #[command(
        after_help = "Without FILE, all that are kept; with FILE and the agent's key, no manager is needed. Exit 1 if anything \
                      is not proved or missing; a chain that begins anew is listed only.\n\nExample:\n  \
                      mailfleet report verify A0001.readings --key ed25519:iojj3XQJ8ZX9UtstPLpdcspnCb8dlBIb83SIAbQPb1w="
    )]
    Verify(ReportVerify),
}

#[derive(Debug, Args)]
pub(crate) struct ReportOutput {
    /// The file to write [default: standard output]
    #[arg(short, long = "output", value_name = "FILE.csv")]
    pub(crate) output: Option<PathBuf>,
    /// Only what was reported at or after this time, such as 2026-11-21T06:10:00Z or 2026-11-21
    #[arg(long, value_name = "TIME", value_parser = UnixMillis::parse)]
    pub(crate) since: Option<UnixMillis>,
}

#[derive(Debug, Args)]
pub(crate) struct Audit {
    #[command(subcommand)]
    pub(crate) command: Option<AuditCommand>,
    /// The file to write [default: standard output]
    #[arg(short, long = "output", value_name = "FILE.csv")]
    pub(crate) output: Option<PathBuf>,
    /// Only what was done at or after this time
    #[arg(long, value_name = "TIME", value_parser = UnixMillis::parse)]
    pub(crate) since: Option<UnixMillis>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum AuditCommand {
    /// Check that no row was altered, taken out or put in; exit 1 if one was
    #[command(
        after_help = "The digest that it prints, kept elsewhere and given with --head, also shows rows cut off at the end.\n\n\
                      Example:\n  mailfleet audit verify"
    )]
    Verify(AuditVerify),
}

#[derive(Debug, Args)]
pub(crate) struct AuditVerify {
    /// A row with this digest has to be there: what an earlier check has printed
    #[arg(long, value_name = "SHA256", value_parser = Digest::parse_hex)]
    pub(crate) head: Option<Digest>,
    #[command(flatten)]
    pub(crate) format: Format,
}

#[derive(Debug, Args)]
pub(crate) struct ReportCampaign {
    /// The campaign's number
    #[arg(value_name = "N")]
    pub(crate) number: u32,
    #[command(flatten)]
    pub(crate) out: ReportOutput,
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory as _;

    fn without_example(command: &clap::Command, path: &str, found: &mut Vec<String>) {
        let path = format!("{path} {}", command.get_name());
        if !command.get_after_help().is_some_and(|help| help.to_string().contains("Example:\n  mailfleet ")) {
            found.push(path.clone());
        }
        for inner in command.get_subcommands() {
            without_example(inner, &path, found);
        }
    }

    #[test]
    fn every_command_explains_itself_with_an_example() {
        let command = Cli::command();
        command.clone().debug_assert();
        let mut found = Vec::new();
        without_example(&command, "", &mut found);
        assert_eq!(found, Vec::<String>::new());
    }

    #[test]
    fn every_command_is_in_the_golden_help() {
        let help = include_str!("../../../fixtures/golden/help.cmds");
        fn walk(command: &clap::Command, path: &str, help: &str) {
            for inner in command.get_subcommands() {
                let path = format!("{path} {}", inner.get_name());
                assert!(help.contains(&format!("{path} --help\n")), "{path}");
                walk(inner, &path, help);
            }
        }
        walk(&Cli::command(), "mailfleet", help);
    }
}
