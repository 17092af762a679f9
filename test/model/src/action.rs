//! A step of a sequence: time passes, or somebody calls a contract.

use alloy::{
    primitives::{Address, Bytes},
    sol_types::SolCall,
};

use crate::abi::{IChannelEscrow, IDevToken, IExecutorRegistry, IUsageSettlement};

/// A step. It holds all it needs, signatures included, so that a sequence means something with any of its steps left out.
#[derive(Clone, Debug)]
pub enum Action {
    /// So many seconds pass.
    Wait(u64),
    /// `caller` sends a transaction.
    Call {
        /// Who sends it.
        caller: Address,
        /// The contract that is called.
        to: Address,
        /// What is called there.
        call: Box<Call>,
    },
}

impl Action {
    /// The name of what is done.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Wait(_) => "wait",
            Self::Call { call, .. } => call.name(),
        }
    }
}

macro_rules! calls {
    ($($variant:ident($call:ty),)*) => {
        /// A call of one of the contracts.
        #[derive(Clone, Debug)]
        #[allow(missing_docs, reason = "the Solidity interfaces are the manual")]
        pub enum Call {
            $($variant($call),)*
        }

        impl Call {
            /// The name of the function.
            pub const fn name(&self) -> &'static str {
                match self { $(Self::$variant(_) => function(<$call>::SIGNATURE),)* }
            }

            /// The transaction's data.
            pub fn data(&self) -> Bytes {
                match self { $(Self::$variant(call) => call.abi_encode().into(),)* }
            }
        }

        $(impl From<$call> for Call {
            fn from(call: $call) -> Self {
                Self::$variant(call)
            }
        })*
    };
}

calls! {
    Open(IChannelEscrow::openCall),
    OpenFromBalance(IChannelEscrow::openFromBalanceCall),
    OpenWithAuthorization(IChannelEscrow::openWithAuthorizationCall),
    OpenWithPermit2(IChannelEscrow::openWithPermit2Call),
    OpenWithGrant(IChannelEscrow::openWithGrantCall),
    TopUp(IChannelEscrow::topUpCall),
    TopUpFromBalance(IChannelEscrow::topUpFromBalanceCall),
    TopUpWithAuthorization(IChannelEscrow::topUpWithAuthorizationCall),
    TopUpWithPermit2(IChannelEscrow::topUpWithPermit2Call),
    TopUpWithGrant(IChannelEscrow::topUpWithGrantCall),
    Deposit(IChannelEscrow::depositCall),
    DepositFor(IChannelEscrow::depositForCall),
    DepositWithPermit(IChannelEscrow::depositWithPermitCall),
    DepositWithAuthorization(IChannelEscrow::depositWithAuthorizationCall),
    WithdrawBalance(IChannelEscrow::withdrawBalanceCall),
    Settle(IChannelEscrow::settleCall),
    SettleWithAuthorization(IChannelEscrow::settleWithAuthorizationCall),
    Close(IChannelEscrow::closeCall),
    CloseWithAuthorization(IChannelEscrow::closeWithAuthorizationCall),
    RequestClose(IChannelEscrow::requestCloseCall),
    RequestCloseWithAuthorization(IChannelEscrow::requestCloseWithAuthorizationCall),
    Withdraw(IChannelEscrow::withdrawCall),
    WithdrawFor(IChannelEscrow::withdrawForCall),
    InvalidateNonce(IChannelEscrow::invalidateNonceCall),
    ClaimVouchers(IChannelEscrow::claimVouchersCall),
    ClaimContractVouchers(IChannelEscrow::claimContractVouchersCall),
    AdvanceChannels(IChannelEscrow::advanceChannelsCall),
    CloseChannel(IChannelEscrow::closeChannelCall),
    ClaimReceipts(IUsageSettlement::claimReceiptsCall),
    CloseWithReceipt(IUsageSettlement::closeWithReceiptCall),
    CloseWithVoucher(IUsageSettlement::closeWithVoucherCall),
    AddOperator(IExecutorRegistry::addOperatorCall),
    RemoveOperator(IExecutorRegistry::removeOperatorCall),
    Mint(IDevToken::mintCall),
    Approve(IDevToken::approveCall),
    Transfer(IDevToken::transferCall),
}

/// The name in a signature.
const fn function(signature: &'static str) -> &'static str {
    let mut length = 0;
    while length < signature.len() && signature.as_bytes()[length] != b'(' {
        length += 1;
    }
    signature.split_at(length).0
}
