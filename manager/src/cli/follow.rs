//! `campaign watch` and `campaign start --wait`: follows a campaign to its end. Ctrl-C ends the watching; what
//! was done is kept, and what is left goes on with the next daemon.

use std::path::Path;
use std::time::{Duration, Instant};

use mailfleet::home::Home;
use manager_core::CampaignId;

use super::args::CampaignId as CampaignArg;
use super::daemon::{Waited, log_to_stderr, runtime, work_until};
use super::fail::{Done, Fail, Outcome};
use super::progress::Follow;
use super::view::{View, title};
use super::{open, show};

/// Shortest pause between two looks at the store.
const LOOK_EVERY: Duration = Duration::from_millis(250);

pub(crate) fn watch(home: Option<&Path>, args: &CampaignArg) -> Outcome {
    let home = open::home(home)?;
    let id = CampaignId(i64::from(args.number));
    let mut store = open::store(&home)?;
    View::load(&mut store, id)?;
    follow(&home, id)
}

/// Follows the campaign until nothing more happens by itself, and says how it ended.
pub(crate) fn follow(home: &Home, id: CampaignId) -> Outcome {
    log_to_stderr("warn");
    let waited = runtime()?.block_on(work_until(home, until_over(home, id)));
    let mut store = open::store(home)?;
    let view = View::load(&mut store, id)?;
    let again = format!("mailfleet campaign watch {id}");
    match waited {
        Ok(Waited::Over) => {}
        Ok(Waited::Interrupted) => {
            show::note(&format!(
                "Stopped watching. {} goes on when a daemon runs (mailfleet run); follow it again: {again}",
                title(&view.campaign)
            ));
            return Ok(Done::Interrupted);
        }
        Err(failed) => {
            show::note(&format!("{} is kept; go on with it: {again}", title(&view.campaign)));
            return Err(failed);
        }
    }
    show::print(&view.end_text())?;
    Ok(if view.unverified() == 0 { Done::All } else { Done::Partly })
}

async fn until_over(home: &Home, id: CampaignId) -> Result<(), Fail> {
    let mut store = open::store(home)?;
    let mut shown: Option<Follow> = None;
    loop {
        let began = Instant::now();
        let view = View::load(&mut store, id)?;
        let follow = shown.get_or_insert_with(|| Follow::new(view.campaign.targets.len()));
        follow.show(view.ended(), &view.counts_text(), &view.next_short());
        if view.is_over() {
            break;
        }
        // A look at a campaign of many thousands takes a while; the daemon's work goes first.
        let pause = began.elapsed().saturating_mul(10).max(LOOK_EVERY);
        tokio::time::sleep(pause).await;
    }
    if let Some(follow) = shown {
        follow.end();
    }
    Ok(())
}
