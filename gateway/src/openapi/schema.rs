//! JSON schemas of messages and enums, as the JSON mapping of protobuf writes them.

use std::collections::{BTreeMap, HashMap};

use prost_reflect::{DescriptorPool, EnumDescriptor, FieldDescriptor, Kind, MessageDescriptor};
use serde_json::{Map, Value as Json, json};

use super::comments::Comments;

/// The schemas that the document's operations use.
pub(super) struct Schemas<'a> {
    comments: &'a Comments,
    /// By relative name ("Model.State"), how many packages have it.
    relative_names: HashMap<String, usize>,
    done: BTreeMap<String, Json>,
}

impl<'a> Schemas<'a> {
    /// Schemas of one pool.
    pub(super) fn new(pool: Option<&DescriptorPool>, comments: &'a Comments) -> Self {
        let mut relative_names: HashMap<String, usize> = HashMap::new();
        if let Some(pool) = pool {
            let messages = pool
                .all_messages()
                .map(|message| relative(message.full_name(), message.package_name()));
            let enums = pool
                .all_enums()
                .map(|item| relative(item.full_name(), item.package_name()));
            for name in messages.chain(enums) {
                *relative_names.entry(name).or_default() += 1;
            }
        }
        Self {
            comments,
            relative_names,
            done: BTreeMap::new(),
        }
    }

    /// The schemas by name.
    pub(super) fn finish(self) -> Map<String, Json> {
        self.done.into_iter().collect()
    }

    /// The schema of a message: a reference, or for a well-known type the schema of its JSON form.
    pub(super) fn message(&mut self, message: &MessageDescriptor) -> Json {
        if let Some(schema) = well_known(message.full_name()) {
            return schema;
        }
        let name = self.name(message.full_name(), message.package_name());
        if !self.done.contains_key(&name) {
            // Taken before its fields are looked at: a message may contain itself.
            self.done.insert(name.clone(), Json::Null);
            let schema = self.object(message, &[]);
            self.done.insert(name.clone(), schema);
        }
        reference(&name)
    }

    /// The schema of a message without some of its fields.
    pub(super) fn object(
        &mut self,
        message: &MessageDescriptor,
        left_out: &[&FieldDescriptor],
    ) -> Json {
        let mut properties = Map::new();
        for field in message.fields().filter(|field| !left_out.contains(&field)) {
            properties.insert(field.json_name().to_owned(), self.field(&field));
        }
        let mut schema = Map::from_iter([("type".to_owned(), Json::from("object"))]);
        if let Some(comment) = self.comments.of(&message.parent_file(), message.path()) {
            schema.insert("description".to_owned(), Json::from(comment));
        }
        schema.insert("properties".to_owned(), Json::Object(properties));
        Json::Object(schema)
    }

    /// The schema of a field, with its comment.
    pub(super) fn field(&mut self, field: &FieldDescriptor) -> Json {
        let kind = field.kind();
        let mut schema = match kind.as_message() {
            Some(entry) if field.is_map() => {
                let value = self.kind(&entry.map_entry_value_field().kind());
                json!({"type": "object", "additionalProperties": value})
            }
            _ if field.is_list() => json!({"type": "array", "items": self.kind(&kind)}),
            _ => self.kind(&kind),
        };
        if let (Some(comment), Some(schema)) = (self.field_comment(field), schema.as_object_mut()) {
            schema.insert("description".to_owned(), Json::from(comment));
        }
        schema
    }

    /// A field's comment.
    pub(super) fn field_comment(&self, field: &FieldDescriptor) -> Option<&'a str> {
        self.comments.of(&field.parent_file(), field.path())
    }

    /// The schema of one value of a kind.
    pub(super) fn kind(&mut self, kind: &Kind) -> Json {
        match kind {
            Kind::Double => json!({"type": "number", "format": "double"}),
            Kind::Float => json!({"type": "number", "format": "float"}),
            Kind::Int32 | Kind::Sint32 | Kind::Sfixed32 => {
                json!({"type": "integer", "format": "int32"})
            }
            Kind::Uint32 | Kind::Fixed32 => {
                json!({"type": "integer", "minimum": 0, "maximum": u32::MAX})
            }
            Kind::Int64 | Kind::Sint64 | Kind::Sfixed64 => {
                json!({"type": "string", "format": "int64"})
            }
            Kind::Uint64 | Kind::Fixed64 => json!({"type": "string", "format": "uint64"}),
            Kind::Bool => json!({"type": "boolean"}),
            Kind::String => json!({"type": "string"}),
            Kind::Bytes => json!({"type": "string", "contentEncoding": "base64"}),
            Kind::Enum(descriptor) => self.enumeration(descriptor),
            Kind::Message(descriptor) => self.message(descriptor),
        }
    }

    fn enumeration(&mut self, descriptor: &EnumDescriptor) -> Json {
        if descriptor.full_name() == "google.protobuf.NullValue" {
            return json!({"type": "null"});
        }
        let name = self.name(descriptor.full_name(), descriptor.package_name());
        if !self.done.contains_key(&name) {
            let file = descriptor.parent_file();
            let mut lines: Vec<String> = Vec::new();
            lines.extend(
                self.comments
                    .of(&file, descriptor.path())
                    .map(|comment| format!("{comment}\n")),
            );
            for value in descriptor.values() {
                let comment = self.comments.of(&file, value.path());
                lines.push(match comment {
                    Some(comment) => format!("- `{}`: {comment}", value.name()),
                    None => format!("- `{}`", value.name()),
                });
            }
            let values: Vec<_> = descriptor
                .values()
                .map(|value| value.name().to_owned())
                .collect();
            let schema = json!({"type": "string", "enum": values, "description": lines.join("\n")});
            self.done.insert(name.clone(), schema);
        }
        reference(&name)
    }

    /// The name without its package where no other package has the same.
    fn name(&self, full_name: &str, package: &str) -> String {
        let relative = relative(full_name, package);
        match self.relative_names.get(&relative) {
            Some(1) => relative,
            _ => full_name.to_owned(),
        }
    }
}

fn relative(full_name: &str, package: &str) -> String {
    let name = full_name.strip_prefix(package).unwrap_or(full_name);
    name.trim_start_matches('.').to_owned()
}

fn reference(name: &str) -> Json {
    json!({"$ref": format!("#/components/schemas/{name}")})
}

fn well_known(full_name: &str) -> Option<Json> {
    let schema = match full_name {
        "google.protobuf.Struct" => json!({"type": "object", "additionalProperties": true}),
        "google.protobuf.Value" => json!({"description": "Any JSON value."}),
        "google.protobuf.ListValue" => json!({"type": "array", "items": {}}),
        "google.protobuf.Timestamp" => json!({"type": "string", "format": "date-time"}),
        "google.protobuf.Duration" => {
            json!({"type": "string", "pattern": r"^-?[0-9]+(\.[0-9]{1,9})?s$", "examples": ["1.5s"]})
        }
        "google.protobuf.FieldMask" => json!({"type": "string", "examples": ["name,rows.values"]}),
        "google.protobuf.Empty" => json!({"type": "object", "additionalProperties": false}),
        "google.protobuf.Any" => json!({
            "type": "object",
            "required": ["@type"],
            "properties": {"@type": {"type": "string"}},
            "additionalProperties": true,
        }),
        "google.protobuf.DoubleValue" => json!({"type": ["number", "null"], "format": "double"}),
        "google.protobuf.FloatValue" => json!({"type": ["number", "null"], "format": "float"}),
        "google.protobuf.Int32Value" => json!({"type": ["integer", "null"], "format": "int32"}),
        "google.protobuf.UInt32Value" => {
            json!({"type": ["integer", "null"], "minimum": 0, "maximum": u32::MAX})
        }
        "google.protobuf.Int64Value" => json!({"type": ["string", "null"], "format": "int64"}),
        "google.protobuf.UInt64Value" => json!({"type": ["string", "null"], "format": "uint64"}),
        "google.protobuf.BoolValue" => json!({"type": ["boolean", "null"]}),
        "google.protobuf.StringValue" => json!({"type": ["string", "null"]}),
        "google.protobuf.BytesValue" => {
            json!({"type": ["string", "null"], "contentEncoding": "base64"})
        }
        _ => return None,
    };
    Some(schema)
}
