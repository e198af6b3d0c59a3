//! The OpenAPI document, made from the handlers' own descriptions.

use crate::routes::{health, memory, models, speech, voices};
use utoipa::openapi::security::{Http, HttpAuthScheme, SecurityScheme};
use utoipa::openapi::{OpenApi as Document, SecurityRequirement};
use utoipa::{Modify, OpenApi};

#[derive(OpenApi)]
#[openapi(
    info(title = "sottovoce", description = "Streaming text-to-speech within the memory that you allow"),
    paths(
        speech::speak, voices::list, voices::upload, voices::delete, models::list, models::show, models::load, models::unload,
        memory::report, memory::trim, memory::profile, health::health, health::live, health::ready, health::metrics
    ),
    modifiers(&BearerKey)
)]
struct Description;

/// Keys are asked for only where the server was started with some.
struct BearerKey;

impl Modify for BearerKey {
    fn modify(&self, document: &mut Document) {
        let scheme = SecurityScheme::Http(Http::new(HttpAuthScheme::Bearer));
        document
            .components
            .get_or_insert_default()
            .add_security_scheme("key", scheme);
        let optional = SecurityRequirement::default();
        let key = SecurityRequirement::new("key", Vec::<String>::new());
        document.security = Some(vec![optional, key]);
    }
}

/// The document that `/openapi.json` serves.
pub fn document() -> Document {
    Description::openapi()
}
