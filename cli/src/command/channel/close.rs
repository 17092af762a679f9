use clap::Args;

use crate::{
    control::{Answer, Order},
    failure::{Failure, Kind, Result},
    onchain::parse_channel,
    progress::Progress,
    session::Session,
    settlement::CloseAnswer,
    watching::{Initiative, Watching, check_operator, handle_failure, payee},
};

/// Executor: close a channel with the best authorization it holds
///
/// What was earned is paid out, the rest returns to the payer at once. What only a voucher covers is claimed first
/// where usage is published. A payer uses `channel request-close` instead.
#[derive(Debug, Args)]
pub struct CloseArgs {
    /// The channel's id
    pub channel: String,
    /// Don't ask before sending
    #[arg(long, short)]
    pub yes: bool,
}

/// Closes.
///
/// # Errors
/// When it isn't this executor's to close.
pub async fn run(session: &Session, arguments: CloseArgs) -> Result {
    let id = parse_channel(&arguments.channel)?;
    session.config()?;
    let address = session.address()?;
    let on_chain = session.on_chain().await?;
    let channel = on_chain.known_channel(id).await?;
    if channel.finalized {
        return Err(Failure::new(
            Kind::Refused,
            format!("the channel {id} is closed already"),
        ));
    }
    let payee = payee(session)?;
    if channel.payee != payee {
        let failure = Failure::new(
            Kind::Refused,
            format!("the channel pays {}, not {payee}", channel.payee),
        );
        return Err(if channel.payer == address {
            failure.hint(format!(
                "as its payer, ask for what is left: `lloomctl channel request-close {id}`, and after the grace period `lloomctl channel withdraw {id}`"
            ))
        } else {
            failure.hint("run it in the home of the executor that serves the channel")
        });
    }
    if !arguments.yes && session.output.is_interactive() && !session.output.confirm(&format!("Close channel {id}?"))? {
        return Err(Failure::new(Kind::Interrupted, "nothing was sent"));
    }
    let progress = Progress::spinner(session.output, "Closing");
    let order = Order::Close { channel: id };
    let answer = match session.hand_over(&order).await? {
        Some(Answer::Closed(answer)) => answer,
        Some(_) => return Err(Failure::new(Kind::Failed, "the node answered something else")),
        None => {
            let key = session.unlock()?;
            check_operator(&on_chain, payee, key.address()).await?;
            let ledger = session.open_store().await?;
            let mut watching = Watching::start(session, &on_chain, ledger.clone(), key, Initiative::Orders).await?;
            let handle = watching.handle.clone();
            let report = watching
                .obey(async { handle.close_channel(id).await.map_err(handle_failure) })
                .await;
            if report.is_ok() {
                watching.stop().await;
            }
            ledger.close().await;
            CloseAnswer::new(report?, &session.network.token)
        }
    };
    drop(progress);
    session.output.print(&answer)
}
