//! The OpenAPI document, generated from the handlers' annotations and the routes, so that it
//! matches what is served.

use crate::app::App;
use crate::options::Limits;
use crate::routes::{
    aliases, health, history, library, memory, models, options, page, rename, speech, stream,
    voice_changes, voices,
};
use axum::Json;
use axum::extract::{DefaultBodyLimit, State};
use std::sync::Arc;
use tower_http::compression::CompressionLayer;
use utoipa::OpenApi;
use utoipa::openapi::path::Operation;
use utoipa::openapi::security::{Http, HttpAuthScheme, SecurityScheme};
use utoipa::openapi::{
    ContentBuilder, Object, OpenApi as Document, Ref, RefOr, ResponseBuilder, Schema,
    SecurityRequirement,
};
use utoipa_axum::router::{OpenApiRouter, UtoipaMethodRouterExt};
use utoipa_axum::routes;

#[derive(OpenApi)]
#[openapi(info(
    title = "sottovoce",
    description = "Streaming text-to-speech within the memory that you allow"
))]
struct Description;

/// All routes with their descriptions.
pub(crate) fn routes(limits: &Limits) -> OpenApiRouter<Arc<App>> {
    let form = DefaultBodyLimit::max(limits.form_bytes());
    // Only long texts without secrets are compressed; compression would delay a stream of sound.
    let compression = CompressionLayer::new();
    OpenApiRouter::with_openapi(Description::openapi())
        .routes(routes!(speech::speak))
        .routes(routes!(voice_changes::change).layer(form))
        .routes(routes!(options::list).layer(compression.clone()))
        .routes(routes!(voices::list, voices::upload).layer(form))
        .routes(routes!(voices::delete, rename::rename))
        .routes(routes!(aliases::list))
        .routes(routes!(aliases::set, aliases::delete))
        .routes(routes!(models::list_speech_models))
        .routes(routes!(models::list))
        .routes(routes!(models::show))
        .routes(routes!(library::list).layer(compression.clone()))
        .routes(routes!(library::offer, library::download, library::cancel))
        .routes(routes!(models::load))
        .routes(routes!(models::unload))
        .routes(routes!(stream::connect))
        .routes(routes!(memory::report))
        .routes(routes!(history::history).layer(compression.clone()))
        .routes(routes!(memory::trim))
        .routes(routes!(memory::profile))
        .routes(routes!(health::health))
        .routes(routes!(health::live))
        .routes(routes!(health::ready))
        .routes(routes!(health::startup))
        .routes(routes!(health::metrics))
        .routes(routes!(show).layer(compression.clone()))
        .routes(routes!(page::index).layer(compression.clone()))
        .routes(routes!(page::file).layer(compression))
}

/// This document.
#[utoipa::path(get, path = "/openapi.json", tag = "page", operation_id = "openapi",
    responses((status = 200, description = "The document", body = serde_json::Value)))]
async fn show(State(app): State<Arc<App>>) -> Json<Document> {
    Json(document(&app.options.limits))
}

/// The document at `/openapi.json` of a server with these limits.
pub fn document(limits: &Limits) -> Document {
    let mut document = routes(limits).into_openapi();
    set_limits(&mut document, limits);
    // Keys are required only if the server was started with some.
    document
        .components
        .get_or_insert_default()
        .add_security_scheme(
            "key",
            SecurityScheme::Http(Http::new(HttpAuthScheme::Bearer)),
        );
    let key = SecurityRequirement::new("key", Vec::<String>::new());
    document.security = Some(vec![SecurityRequirement::default(), key]);
    for path in document.paths.paths.values_mut() {
        let operations = [
            &mut path.get,
            &mut path.post,
            &mut path.put,
            &mut path.delete,
        ];
        for operation in operations.into_iter().flatten() {
            add_refusals(operation);
        }
    }
    document
}

/// Inserts the server's own limits into the document.
fn set_limits(document: &mut Document, limits: &Limits) {
    let schemas = document
        .components
        .get_or_insert_default()
        .schemas
        .get_mut("SpeechRequest");
    if let Some(RefOr::T(schema)) = schemas
        && let Some(input) = property(schema, "input")
    {
        input.max_length = Some(limits.text_characters);
    }
}

/// A field of an object schema, also of a composed one.
fn property<'a>(schema: &'a mut Schema, name: &str) -> Option<&'a mut Object> {
    let found = |schema: &'a mut RefOr<Schema>| match schema {
        RefOr::T(schema) => property(schema, name),
        RefOr::Ref(_) => None,
    };
    match schema {
        Schema::Object(object) => match object.properties.get_mut(name) {
            Some(RefOr::T(Schema::Object(field))) => Some(field),
            _ => None,
        },
        Schema::AllOf(parts) => parts.items.iter_mut().find_map(found),
        _ => None,
    }
}

/// Adds the errors that any path may return before its handler runs.
fn add_refusals(operation: &mut Operation) {
    let every = [
        ("401", "No valid API key"),
        ("403", "A foreign page asked, or by a foreign name"),
        ("429", "Too often; `Retry-After` says when to try again"),
    ];
    let with_body = [
        ("400", "The body cannot be used"),
        ("408", "The body did not arrive in time"),
        ("413", "The body is too large"),
        ("415", "The body is of another kind"),
    ];
    let with_body = with_body
        .into_iter()
        .filter(|_| operation.request_body.is_some());
    for (status, description) in every.into_iter().chain(with_body.collect::<Vec<_>>()) {
        let body = ContentBuilder::new()
            .schema(Some(Ref::from_schema_name("ErrorBody")))
            .build();
        let response = ResponseBuilder::new()
            .description(description)
            .content("application/json", body)
            .build();
        operation
            .responses
            .responses
            .entry(status.into())
            .or_insert(response.into());
    }
}
