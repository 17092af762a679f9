// SPDX-License-Identifier: MIT
pragma solidity ^0.8.28;

import {SymbolicFixture} from "./SymbolicFixture.sol";
import {both, where} from "./Truth.sol";
import {IChannelEscrow} from "lloom/interfaces/IChannelEscrow.sol";
import {VoucherAmounts} from "lloom/types/VoucherAmounts.sol";

/// @notice Rows are independent: of two rows, on different channels, each does what its own words and its own channel
/// say, whatever the other is, and what is paid is the sum. This contract is the settlement.
contract RowsTest is SymbolicFixture {
    bytes32 private constant NEXT_ID = keccak256("next channel");
    bytes32 private constant NEXT_SALT = keccak256("next salt");
    uint256 private constant HALF_ORDER = 0x7FFFFFFFFFFFFFFFFFFFFFFFFFFFFFFF5D576E7357A4501DDFE92F46681B20A0;

    function check_AdvanceChannels(uint128 first, uint128 second) public {
        assumeRecord(ID);
        assumeRecord(NEXT_ID);
        (IChannelEscrow.Channel memory one, IChannelEscrow.Channel memory two) =
            (escrow.getChannel(ID), escrow.getChannel(NEXT_ID));
        (uint128 delta, uint128 nextDelta) = (deltaOf(one, first), deltaOf(two, second));
        uint256 paid = paidTo(SECOND);

        IChannelEscrow.Advance[] memory rows = new IChannelEscrow.Advance[](2);
        rows[0] = IChannelEscrow.Advance(ID, first);
        rows[1] = IChannelEscrow.Advance(NEXT_ID, second);
        uint256[] memory settledRows = escrow.advanceChannels(SECOND, address(token), rows);

        assertAdvanced(ID, one, delta);
        assertAdvanced(NEXT_ID, two, nextDelta);
        assertPaid(SECOND, paid, delta, nextDelta);
        assert(both((settledRows[0] & 1 != 0) == (delta != 0), (settledRows[0] & 2 != 0) == (nextDelta != 0)));
    }

    function check_ClaimVouchers(
        bytes32 r,
        bytes32 vs,
        uint256 amounts,
        bytes32 nextR,
        bytes32 nextVs,
        uint256 nextAmounts
    ) public {
        IChannelEscrow.VoucherRow[] memory rows = new IChannelEscrow.VoucherRow[](2);
        rows[0] = IChannelEscrow.VoucherRow(FIRST, SALT, address(0), r, vs, VoucherAmounts.wrap(amounts));
        rows[1] =
            IChannelEscrow.VoucherRow(FIRST, NEXT_SALT, address(0), nextR, nextVs, VoucherAmounts.wrap(nextAmounts));
        (bytes32 id, bytes32 nextId) = (idOf(rows[0]), idOf(rows[1]));
        assumeRecord(id);
        assumeRecord(nextId);
        (IChannelEscrow.Channel memory one, IChannelEscrow.Channel memory two) =
            (escrow.getChannel(id), escrow.getChannel(nextId));
        (uint128 delta, uint128 nextDelta) = (claimable(id, one, rows[0]), claimable(nextId, two, rows[1]));
        uint256 paid = paidTo(SECOND);

        uint256 sum = escrow.claimVouchers(SECOND, address(token), rows);

        assertAdvanced(id, one, delta);
        assertAdvanced(nextId, two, nextDelta);
        assertPaid(SECOND, paid, delta, nextDelta);
        assert(sum == uint256(delta) + nextDelta);
    }

    // --- What a row does by itself ---

    function idOf(IChannelEscrow.VoucherRow memory row) private view returns (bytes32) {
        return escrow.computeChannelId(row.payer, SECOND, address(token), row.salt, row.authorizedSigner);
    }

    function claimable(bytes32 id, IChannelEscrow.Channel memory channel, IChannelEscrow.VoucherRow memory row)
        private
        view
        returns (uint128)
    {
        (uint128 ceiling, uint128 amount) = (row.amounts.ceiling(), row.amounts.amount());
        bytes32 s = row.vs << 1 >> 1;
        address signer = ecrecover(escrow.getVoucherDigest(id, ceiling), uint8(uint256(row.vs >> 255)) + 27, row.r, s);
        bool isSigned = both(signer == row.payer, uint256(s) <= HALF_ORDER);
        return uint128(where(both(isSigned, amount <= ceiling), deltaOf(channel, amount)));
    }

    function deltaOf(IChannelEscrow.Channel memory channel, uint128 amount) private pure returns (uint128) {
        bool isAccepted = both(amount > channel.settled, amount <= channel.deposit);
        unchecked {
            return uint128(where(both(!channel.finalized, isAccepted), amount - channel.settled));
        }
    }

    // --- What is shown ---

    function assertAdvanced(bytes32 id, IChannelEscrow.Channel memory before, uint128 delta) private view {
        unchecked {
            before.settled += delta;
        }
        assert(keccak256(abi.encode(escrow.getChannel(id))) == keccak256(abi.encode(before)));
    }

    /// @dev In tokens, or on the books: what the escrow holds less what this account has in it.
    function assertPaid(address payee, uint256 before, uint256 delta, uint256 nextDelta) private view {
        unchecked {
            assert(paidTo(payee) - before == delta + nextDelta);
        }
    }

    function paidTo(address payee) private view returns (uint256) {
        unchecked {
            return escrow.balanceOf(payee, address(token)) - token.held();
        }
    }
}
