//! Who may give orders.

use crate::{
    attempts::Attempts,
    client::{Authorization, Order},
    sentences::Number,
};

/// An origin that no page has.
const ORIGIN: &str = "http://page.invalid";

/// Asks whether orders of others are refused.
///
/// # Errors
/// When the slot shows nothing any more.
pub(crate) async fn check(attempts: &mut Attempts<'_>) -> Result<(), String> {
    let stale = |slot: &_, generation: u64| Order::new(slot, generation - 1, "operator");
    let of_a_page = |slot: &_, generation| Order { origin: Some(ORIGIN), ..stale(slot, generation) };
    attempts.refused(&[(Number::A9, &[403])], of_a_page).await?;
    if !attempts.client.has_token() {
        let with_token = |slot: &_, generation| Order {
            authorization: Authorization::Value("Bearer nobody-asked-for-this".into()),
            ..stale(slot, generation)
        };
        attempts.refused(&[(Number::A8, &[412])], with_token).await?;
        for number in [Number::A2, Number::A3, Number::A4, Number::A5, Number::A6, Number::A7] {
            attempts.findings.not_applicable(number, "no token was given");
        }
        return Ok(());
    }
    // With a generation that is not live: a host that asks for no token must not restart anything here.
    let authorizations = [Authorization::Absent, Authorization::Value("Bearer not-the-token".into())];
    let mut is_open = true;
    for authorization in authorizations {
        let order = |slot: &_, generation| Order { authorization, ..stale(slot, generation) };
        is_open &= attempts.refused(&[], order).await? == 412;
    }
    if is_open {
        return Err("a token was given, and the host takes orders without one: check it without".to_owned());
    }
    attempts.findings.not_applicable(Number::A8, "a token was given");
    // All of /metrics was read without it.
    attempts.findings.judge(Number::A7, Ok(()));
    let absent = |slot: &_, generation| Order {
        authorization: Authorization::Absent,
        ..Order::new(slot, generation, "operator")
    };
    attempts.refused(&[(Number::A2, &[401, 403]), (Number::A3, &[401])], absent).await?;
    let wrong = |slot: &_, generation| Order {
        authorization: Authorization::Value("Bearer not-the-token".into()),
        ..Order::new(slot, generation, "operator")
    };
    attempts.refused(&[(Number::A2, &[401, 403]), (Number::A4, &[403])], wrong).await?;
    let unknown = |slot: &_, generation| {
        let mut order = absent(slot, generation);
        order.slot.module = crate::orders::UNKNOWN_MODULE.to_owned();
        order
    };
    attempts.refused(&[(Number::A5, &[401, 403])], unknown).await?;
    let token = attempts.client.authorization("bearer");
    let lowercase = |slot: &_, generation| Order {
        authorization: Authorization::Value(token),
        ..stale(slot, generation)
    };
    attempts.refused(&[(Number::A6, &[412])], lowercase).await?;
    Ok(())
}
