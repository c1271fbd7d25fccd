// Reads JSON Schema 2020-12 as the API writes it: references, nullables, unions with a discriminator.

export function deref(schema, defs) {
  if (!schema?.$ref) return schema ?? {};
  const { $ref, ...beside } = schema;
  return { ...deref(defs[$ref.split("/").at(-1)], defs), ...beside };
}

const isNull = (schema) => schema.type === "null";

// Splits `X | null` into X and whether null is allowed.
export function nullable(schema, defs) {
  const whole = deref(schema, defs);
  const options = whole.anyOf;
  if (!options) return { schema: whole, isNullable: false };
  const rest = options.filter((option) => !isNull(deref(option, defs)));
  if (rest.length === options.length) return { schema: whole, isNullable: false };
  const { anyOf: _, ...beside } = whole;
  const inner = rest.length === 1 ? { ...deref(rest[0], defs), ...beside, title: whole.title } : { ...beside, anyOf: rest };
  return { schema: inner, isNullable: true };
}

// The branches of a union by the value of its discriminator; null for other schemas.
export function tagged(schema, defs) {
  if (!schema.oneOf || !schema.discriminator) return null;
  const tag = schema.discriminator.propertyName;
  const branches = schema.oneOf.map((branch) => deref(branch, defs));
  return { tag, branches: new Map(branches.map((branch) => [branch.properties[tag].const, branch])) };
}

const has = (schema, pattern) => schema?.type === "string" && schema.pattern === pattern;
export const isImageId = (schema) => has(schema, "^img_[0-9a-f]{24}$");
export const isDatasetId = (schema) => has(schema, "^ds_[0-9a-f]{24}$");
export const isModelId = (schema) => has(schema, "^[a-z0-9][a-z0-9._-]{0,99}$");

// The value of a schema that says nothing else.
export function defaultOf(schema, defs) {
  const { schema: inner, isNullable } = nullable(schema, defs);
  if ("default" in inner) return inner.default;
  if ("const" in inner) return inner.const;
  if (isNullable) return null;
  return undefined;
}

export function rangeWords(schema) {
  const low = schema.minimum ?? schema.exclusiveMinimum;
  const high = schema.maximum ?? schema.exclusiveMaximum;
  const above = schema.exclusiveMinimum !== undefined ? "more than " : "";
  const below = schema.exclusiveMaximum !== undefined ? "less than " : "";
  if (low !== undefined && high !== undefined) return high > 2e9 || high === 2147483648 ? `${above}${low} or more` : `${above}${low} to ${below}${high}`;
  if (low !== undefined) return above ? `more than ${low}` : `${low} or more`;
  if (high !== undefined) return `at most ${high}`;
  return "";
}
