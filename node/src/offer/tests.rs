use super::*;
use crate::network::offer_for_tests as offer;

type Spoil = fn(&mut Offer);
type IsExpected = fn(&OfferError) -> bool;

#[test]
fn believes_only_the_operator_itself() {
    let sender = Address::repeat_byte(7);
    assert_eq!(offer(sender).check(sender), Ok(()));
    let other = Address::repeat_byte(8);
    assert_eq!(
        offer(sender).check(other),
        Err(OfferError::WrongOperator {
            operator: sender,
            sender: other
        })
    );
}

#[test]
fn every_part_has_its_limit() {
    let sender = Address::repeat_byte(7);
    let cases: [(Spoil, IsExpected); 6] = [
        (
            |offer| offer.models = vec![offer.models[0].clone(); MAX_MODELS + 1],
            |error| matches!(error, OfferError::TooManyModels { count } if *count == MAX_MODELS + 1),
        ),
        (
            |offer| offer.models.push(offer.models[0].clone()),
            |error| matches!(error, OfferError::DuplicateModel { .. }),
        ),
        (
            |offer| offer.models[0].id = String::new(),
            |error| matches!(error, OfferError::ModelIdLength { bytes: 0 }),
        ),
        (
            |offer| offer.models[0].id = "m".repeat(MAX_MODEL_ID_BYTES + 1),
            |error| matches!(error, OfferError::ModelIdLength { .. }),
        ),
        (
            |offer| offer.agent = "a".repeat(MAX_AGENT_BYTES + 1),
            |error| matches!(error, OfferError::AgentTooLong { .. }),
        ),
        (
            |offer| offer.increment = TokenCount::new(0),
            |error| matches!(error, OfferError::ZeroIncrement),
        ),
    ];
    for (spoil, is_expected) in cases {
        let mut offer = offer(sender);
        spoil(&mut offer);
        let error = offer.check(sender).unwrap_err();
        assert!(is_expected(&error), "{error:?}");
    }
}

#[test]
fn finds_a_model_by_its_hash() {
    let offer = offer(Address::repeat_byte(7));
    assert_eq!(offer.model(ModelHash::of_id("tiny")), Some(&offer.models[0]));
    assert_eq!(offer.model(ModelHash::of_id("other")), None);
}
