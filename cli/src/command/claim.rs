use clap::Args;
use lloom_receipts::ChannelId;

use crate::{
    command::watch::tower,
    control::{Answer, Order, Served, obey},
    failure::{Failure, Kind, OrFail as _, Result},
    monitoring::Joined,
    onchain::parse_channel,
    progress::Progress,
    session::{Session, unknown_channel},
    watching::{Initiative, Watching, payee, standing, warn_of_standing},
};

/// Turn what was earned into money on chain, now
///
/// Claims everything, whatever the fee, and waits until it is final. With --dry-run nothing is sent: it shows what the
/// node would claim by itself at this moment and why, and why not yet. With --explain nothing is sent either: it says of
/// one channel why it would be claimed now, or why not yet and what would change that. When a node runs in this home, it
/// does the work. A key that the payee doesn't name as an operator, or not any more, claims by vouchers alone. A
/// tower claims what it has promised to, once the executor has had its chance.
#[derive(Debug, Args)]
pub struct ClaimArgs {
    /// Show what would be claimed, and why; send nothing
    #[arg(long)]
    pub dry_run: bool,
    /// Only this channel; may be repeated
    #[arg(long = "channel", value_name = "ID")]
    pub channels: Vec<String>,
    /// Say why this channel would be claimed now, or what it waits for; send nothing
    #[arg(long, value_name = "CHANNEL", conflicts_with_all = ["dry_run", "channels"])]
    pub explain: Option<String>,
}

/// Claims.
///
/// # Errors
/// When a part can't be claimed.
pub async fn run(session: &Session, arguments: ClaimArgs) -> Result {
    let channels = arguments
        .channels
        .iter()
        .map(|text| parse_channel(text))
        .collect::<Result<Vec<ChannelId>>>()?;
    session.config()?;
    let explained = arguments.explain.as_deref().map(parse_channel).transpose()?;
    let named: Vec<ChannelId> = channels.iter().chain(&explained).copied().collect();
    check_known(session, &named).await?;
    let (order, doing) = match explained {
        Some(channel) => (Order::Explain { channel }, "Looking"),
        None if arguments.dry_run => (Order::Plan { channels }, "Planning"),
        None => (Order::Claim { channels }, "Claiming"),
    };
    let progress = Progress::spinner(session.output, doing);
    let handed_over = session.hand_over(&order).await?;
    let nobody_runs = handed_over.is_none();
    let answer = match handed_over {
        Some(answer) => answer,
        None => obey_here(session, order).await?,
    };
    drop(progress);
    let only_told = matches!(answer, Answer::Planned(_) | Answer::Explained(_));
    match answer {
        Answer::Claimed(claim) => {
            session.output.print(&claim)?;
            claim.check()
        }
        Answer::Planned(plan) => session.output.print(&plan),
        Answer::Explained(explanation) => session.output.print(&*explanation),
        _ => Err(Failure::new(Kind::Failed, "the node answered something else")),
    }?;
    if only_told && nobody_runs {
        let does = match session.config()?.is_tower() {
            true => "`lloomctl watch --tower` does",
            false => "`lloomctl node run` or `lloomctl watch` does",
        };
        session.output.note(format!(
            "\nNothing runs in this home that would claim by itself: {does}."
        ));
    }
    Ok(())
}

/// Whoever names a channel means one that is there: a typing error isn't a channel that earned nothing.
async fn check_known(session: &Session, channels: &[ChannelId]) -> Result {
    let Some(first) = channels.first() else {
        return Ok(());
    };
    let ledger = session.read_store().await?.ok_or_else(|| unknown_channel(*first))?;
    for channel in channels {
        ledger
            .channel(*channel)
            .await
            .or_fail(Kind::Store, || format!("cannot read the channel {channel}"))?
            .ok_or_else(|| unknown_channel(*channel))?;
    }
    ledger.close().await;
    Ok(())
}

/// What a node would do, in this process.
async fn obey_here(session: &Session, order: Order) -> Result<Answer> {
    let on_chain = session.on_chain().await?;
    let key = session.unlock()?;
    let (payee, operator) = (payee(session)?, key.address());
    let is_tower = session.config()?.is_tower();
    if !is_tower {
        let status = standing(&on_chain, payee, operator).await?;
        warn_of_standing(session.output, status, payee, operator);
    }
    let ledger = session.open_store().await?;
    let mut watching = match is_tower {
        true => tower::defending(session, &on_chain, &ledger, &key, Initiative::Orders).await?,
        false => Watching::start(session, &on_chain, ledger.clone(), key, Initiative::Orders).await?,
    };
    let served = Served {
        watcher: watching.handle.clone(),
        token: session.network.token.clone(),
        monitoring: None,
        network: Joined::default(),
    };
    let answer = watching.obey(obey(order, &served)).await;
    if answer.is_ok() {
        watching.stop().await;
    }
    ledger.close().await;
    answer
}
