// SPDX-License-Identifier: MIT
pragma solidity ^0.8.28;

import {Fixture} from "../Fixture.sol";
import {IDevToken} from "../IDevToken.sol";
import {FickleToken} from "../adversary/Tokens.sol";
import {MinimalPermit2} from "../permit2/MinimalPermit2.sol";
import {ContractWallet} from "./ContractWallet.sol";

/// @notice Who there is, what they hold, and how they sign.
///
/// | account | pays | is paid |                                                               |
/// |---------|------|---------|---------------------------------------------------------------|
/// | alice   | yes  |         | signs by key; the blocking token refuses to pay her sometimes |
/// | bob     | yes  |         | signs by key                                                  |
/// | wallet  | yes  |         | a contract that refuses to sign sometimes                     |
/// | carol   | yes  | yes     | signs by key                                                  |
/// | dave    |      | yes     | the blocking token refuses to pay him sometimes               |
/// | vault   |      | yes     | a contract that refuses to sign sometimes                     |
abstract contract World is Fixture {
    enum SignerKind {
        Payer, // itself, by key or by code
        HotKey,
        Committee // a contract
    }

    uint256 internal constant TOKENS = 3;
    uint256 internal constant DEV = 0; // well-behaved, with EIP-2612 and EIP-3009
    uint256 internal constant BLOCKING = 1; // refuses one receiver at a time
    uint256 internal constant REENTERING = 2; // calls out while money moves, when a handler arms it
    uint256 internal constant WEALTH = 1_000_000e6;

    address[] internal _payers;
    address[] internal _payees;
    address[] internal _accounts; // everybody, and some whom nobody should pay
    IDevToken[] internal _tokens;
    ContractWallet[] internal _signingContracts;
    address internal _committee;
    mapping(address account => uint256) private _keyOf; // its own, or its owner's
    mapping(address account => bool) internal _hasCode;

    uint256 private _salts;
    /// @dev While not zero: `REENTERING + 1`, the only token that actions are about.
    uint256 internal _focus;

    function setUp() public virtual override {
        super.setUp();
        _tokens.push(token);
        _tokens.push(IDevToken(address(new FickleToken())));
        _tokens.push(IDevToken(address(new FickleToken())));
        vm.etch(escrow.PERMIT2(), address(new MinimalPermit2()).code);

        (address alice, address bob, address carol) = (_withKey("alice"), _withKey("bob"), _withKey("carol"));
        (address dave, address wallet, address vault) = (_withKey("dave"), _withCode("wallet"), _withCode("vault"));
        (_payers, _payees) = ([alice, bob, wallet, carol], [carol, dave, vault]);
        _accounts = [alice, bob, wallet, carol, dave, vault];
        for (uint256 i = 0; i < _payees.length; ++i) {
            vm.prank(_payees[i]);
            registry.addOperator(operator.addr);
        }
        for (uint256 i = 0; i < _payers.length; ++i) {
            _equip(_payers[i]);
        }
        _committee = _withCode("committee");
        _keyOf[signer.addr] = signer.key;
        _keyOf[operator.addr] = operator.key;
        _accounts.push(payer.addr);
        _accounts.push(_committee);
        _accounts.push(signer.addr);
        _accounts.push(operator.addr);
        _accounts.push(address(settlement));
    }

    function _withKey(string memory name) private returns (address) {
        Account memory account = makeAccount(name);
        _keyOf[account.addr] = account.key;
        return account.addr;
    }

    function _withCode(string memory name) private returns (address account) {
        Account memory owner = makeAccount(string.concat(name, "'s owner"));
        account = address(new ContractWallet(owner.addr));
        vm.label(account, name);
        (_keyOf[account], _hasCode[account]) = (owner.key, true);
        _signingContracts.push(ContractWallet(account));
    }

    function _equip(address account) private {
        for (uint256 t = 0; t < TOKENS; ++t) {
            _tokens[t].mint(account, WEALTH);
            vm.startPrank(account);
            _tokens[t].approve(address(escrow), type(uint256).max);
            _tokens[t].approve(escrow.PERMIT2(), type(uint256).max);
            vm.stopPrank();
        }
    }

    // --- Chance: every action has one seed, and takes from it what it needs ---

    /// @dev From 0 to `n - 1`; draws of other names are independent.
    function _draw(uint256 seed, string memory name, uint256 n) internal pure returns (uint256) {
        return uint256(keccak256(abi.encodePacked(seed, name))) % n;
    }

    function _oneIn(uint256 n, uint256 seed, string memory name) internal pure returns (bool) {
        return _draw(seed, name, n) == 0;
    }

    /// @dev From 1 to `most`, often small, so that much can happen, and sometimes all there is. Zero when there is nothing.
    function _some(uint256 seed, string memory name, uint256 most) internal pure returns (uint256) {
        uint256 chance = _draw(seed, name, type(uint256).max);
        if (most == 0 || chance % 16 == 0) return most;
        if (chance % 16 == 1) return 1;
        return (chance >> 8) % (most / 4 + 1) + (most > 4 ? 1 : most);
    }

    function _drawPayer(uint256 seed) internal view returns (address) {
        return _payers[_draw(seed, "payer", _payers.length)];
    }

    function _drawAccount(uint256 seed) internal view returns (address) {
        return _accounts[_draw(seed, "account", 6)];
    }

    function _drawToken(uint256 seed) internal view returns (uint256) {
        return _focus == 0 ? _draw(seed, "token", TOKENS) : _focus - 1;
    }

    function _newSalt() internal returns (bytes32) {
        return bytes32(++_salts);
    }

    function _deadline(uint256 seed) internal view returns (uint256) {
        return block.timestamp + _draw(seed, "deadline", 1 hours); // its last second included
    }

    function _isBlocked(address account, uint256 t) internal view returns (bool) {
        return t == BLOCKING && FickleToken(address(_tokens[BLOCKING])).blocked() == account;
    }

    // --- Signatures ---

    function _isRefusing(address account) internal view returns (bool) {
        return _hasCode[account] && ContractWallet(account).refuses();
    }

    function _sign(address by, bytes32 digest) internal view returns (bytes memory) {
        (uint8 v, bytes32 r, bytes32 s) = vm.sign(_keyOf[by], digest);
        return abi.encodePacked(r, s, v);
    }

    function _signCompact(address by, bytes32 digest) internal view returns (bytes32 r, bytes32 vs) {
        return vm.signCompact(_keyOf[by], digest);
    }

    /// @dev In the escrow's domain.
    function _signStruct(address by, bytes32 structHash) internal view returns (bytes memory) {
        return _sign(by, typedDigest(escrowDomain(), structHash));
    }

    /// @dev EIP-3009, for the escrow to receive `amount` of the well-behaved token.
    function _signReceipt(address from, uint256 amount, uint256 validBefore, bytes32 nonce)
        internal
        view
        returns (bytes memory)
    {
        bytes32 typeHash = keccak256(
            "ReceiveWithAuthorization(address from,address to,uint256 value,uint256 validAfter,uint256 validBefore,bytes32 nonce)"
        );
        bytes32 structHash = keccak256(abi.encode(typeHash, from, address(escrow), amount, 0, validBefore, nonce));
        return _sign(from, typedDigest(token.DOMAIN_SEPARATOR(), structHash));
    }

    /// @dev EIP-2612, for the escrow to take `amount` of the well-behaved token.
    function _permitDigest(address from, uint256 amount, uint256 deadline) internal view returns (bytes32) {
        bytes32 typeHash =
            keccak256("Permit(address owner,address spender,uint256 value,uint256 nonce,uint256 deadline)");
        uint256 nonce = token.nonces(from);
        return typedDigest(
            token.DOMAIN_SEPARATOR(), keccak256(abi.encode(typeHash, from, address(escrow), amount, nonce, deadline))
        );
    }

    /// @dev Permit2, for a channel to be opened.
    function _signPermit2ToOpen(
        address from,
        uint256 t,
        uint256 amount,
        uint256 nonce,
        uint256 deadline,
        address to,
        bytes32 salt,
        address authorizedSigner
    ) internal view returns (bytes memory) {
        bytes32 typeHash = keccak256("ChannelOpenWitness(address payee,bytes32 salt,address authorizedSigner)");
        bytes32 witness = keccak256(abi.encode(typeHash, to, salt, authorizedSigner));
        string memory tail =
            "ChannelOpenWitness witness)ChannelOpenWitness(address payee,bytes32 salt,address authorizedSigner)TokenPermissions(address token,uint256 amount)";
        return _signPermit2(from, t, amount, nonce, deadline, witness, tail);
    }

    /// @dev Permit2, for a channel's deposit to be raised.
    function _signPermit2ToTopUp(address from, uint256 t, uint256 amount, uint256 nonce, uint256 deadline, bytes32 id)
        internal
        view
        returns (bytes memory)
    {
        bytes32 witness = keccak256(abi.encode(keccak256("ChannelTopUpWitness(bytes32 channelId)"), id));
        string memory tail =
            "ChannelTopUpWitness witness)ChannelTopUpWitness(bytes32 channelId)TokenPermissions(address token,uint256 amount)";
        return _signPermit2(from, t, amount, nonce, deadline, witness, tail);
    }

    function _signPermit2(
        address from,
        uint256 t,
        uint256 amount,
        uint256 nonce,
        uint256 deadline,
        bytes32 witness,
        string memory tail
    ) private view returns (bytes memory) {
        bytes32 permitted = keccak256(
            abi.encode(keccak256("TokenPermissions(address token,uint256 amount)"), address(_tokens[t]), amount)
        );
        bytes32 typeHash = keccak256(
            abi.encodePacked(
                "PermitWitnessTransferFrom(TokenPermissions permitted,address spender,uint256 nonce,uint256 deadline,",
                tail
            )
        );
        bytes32 structHash = keccak256(abi.encode(typeHash, permitted, address(escrow), nonce, deadline, witness));
        return _sign(from, typedDigest(MinimalPermit2(escrow.PERMIT2()).DOMAIN_SEPARATOR(), structHash));
    }
}
