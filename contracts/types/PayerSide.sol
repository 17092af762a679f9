// SPDX-License-Identifier: MIT
pragma solidity ^0.8.28;

/// @return Who signs for a payer: the channel's authorized signer, or the payer itself where that is zero.
function payerSide(address payer, address authorizedSigner) pure returns (address) {
    return authorizedSigner == address(0) ? payer : authorizedSigner;
}
