// SPDX-License-Identifier: MIT
pragma solidity ^0.8.28;

import {IPermit2} from "lloom/interfaces/external/IPermit2.sol";

/// @notice What the escrow notices of a token, and no more: its own holdings, and whether a call goes through. In a proof
/// all storage is arbitrary, so this is every token that moves what it is asked to move out of the escrow. Into the
/// escrow, it may bring anything.
contract PlainToken {
    /// @notice The escrow's.
    uint256 public held;
    /// @dev What the escrow holds after it has pulled. No call pulls twice.
    uint256 private heldAfterPull;
    /// @dev A bit for each call to come, from the lowest on: for want of money, of allowance, because somebody is blocked…
    uint256 private refusals;

    function balanceOf(address) external view returns (uint256) {
        return held;
    }

    /// @dev Only the escrow calls it. Modulo 2^256: too little money is one more reason to refuse.
    function transfer(address to, uint256 amount) external returns (bool) {
        if (refuses()) return false;
        unchecked {
            if (to != msg.sender) held -= amount;
        }
        return true;
    }

    function transferFrom(address from, address to, uint256) external returns (bool) {
        if (refuses()) return false;
        if (from != to) held = heldAfterPull;
        return true;
    }

    function receiveWithAuthorization(address from, address to, uint256, uint256, uint256, bytes32, bytes calldata)
        external
    {
        require(!refuses());
        if (from != to) held = heldAfterPull;
    }

    function permit(address, address, uint256, uint256, uint8, bytes32, bytes32) external {
        require(!refuses());
    }

    function refuses() private returns (bool refused) {
        refused = refusals & 1 != 0;
        refusals >>= 1;
    }
}

/// @notice Permit2, as far as the escrow notices.
contract PlainPermit2 {
    function permitWitnessTransferFrom(
        IPermit2.PermitTransferFrom calldata permit,
        IPermit2.SignatureTransferDetails calldata details,
        address owner,
        bytes32,
        string calldata,
        bytes calldata
    ) external {
        require(PlainToken(permit.permitted.token).transferFrom(owner, details.to, details.requestedAmount));
    }
}
