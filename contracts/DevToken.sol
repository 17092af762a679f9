// SPDX-License-Identifier: MIT
pragma solidity ^0.8.28;

import {ERC20} from "@openzeppelin/contracts/token/ERC20/ERC20.sol";
import {ERC20Permit} from "@openzeppelin/contracts/token/ERC20/extensions/ERC20Permit.sol";
import {ERC3009} from "@openzeppelin/contracts/token/ERC20/extensions/draft-ERC3009.sol";
import {ECDSA} from "@openzeppelin/contracts/utils/cryptography/ECDSA.sol";

/// @title DevToken
/// @notice A faucet token for development networks, with the interfaces of USDC: 6 decimals, EIP-2612 `permit`, and
/// EIP-3009 authorizations both as `(v, r, s)` and as one `bytes signature`.
/// @dev Warning: `mint` is open to anyone. The token is worthless by design.
contract DevToken is ERC20, ERC20Permit, ERC3009 {
    constructor() ERC20("Lloom Dev Token", "LDEV") ERC20Permit("Lloom Dev Token") {}

    /// @notice Gives `to` whatever it asks for.
    function mint(address to, uint256 amount) external {
        _mint(to, amount);
    }

    /// @notice `transferWithAuthorization` with the signature as 65 bytes.
    function transferWithAuthorization(
        address from,
        address to,
        uint256 value,
        uint256 validAfter,
        uint256 validBefore,
        bytes32 nonce,
        bytes calldata signature
    ) external {
        (uint8 v, bytes32 r, bytes32 s) = ECDSA.parseCalldata(signature);
        transferWithAuthorization(from, to, value, validAfter, validBefore, nonce, v, r, s);
    }

    /// @notice `receiveWithAuthorization` with the signature as 65 bytes.
    function receiveWithAuthorization(
        address from,
        address to,
        uint256 value,
        uint256 validAfter,
        uint256 validBefore,
        bytes32 nonce,
        bytes calldata signature
    ) external {
        (uint8 v, bytes32 r, bytes32 s) = ECDSA.parseCalldata(signature);
        receiveWithAuthorization(from, to, value, validAfter, validBefore, nonce, v, r, s);
    }

    function decimals() public pure override returns (uint8) {
        return 6;
    }
}
