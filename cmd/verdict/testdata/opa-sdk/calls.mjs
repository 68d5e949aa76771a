// The calls of OPA's TypeScript SDK against a running verdict. Each prints its
// name when the answer is right.
import assert from "node:assert/strict";

const { OPAClient } = await import(`file://${process.env.SDK}/node_modules/@open-policy-agent/opa/dist/esm/index.js`);
const opa = new OPAClient(process.env.URL, { headers: { authorization: `Bearer ${process.env.TOKEN}` } });

async function call(name, answer, want) {
  assert.deepEqual(await answer, want, name);
  console.log(name);
}

await call("evaluate", opa.evaluate("app/allow", { user: "ada" }), true);
await call("evaluate denied", opa.evaluate("app/allow", { user: "eve" }), false);
await call("evaluate without input", opa.evaluate("app/allow"), false);
await call("evaluate undefined", opa.evaluate("app/answer"), undefined);
await call("evaluate toInput", opa.evaluate("app/answer", { toInput: () => ({ user: "ada" }) }), { allowed: true, who: "ada" });
await call("evaluate fromResult", opa.evaluate("app/answer", { user: "eve" }, { fromResult: (r) => r.allowed }), false);
await assert.rejects(opa.evaluate("app/conflict", { user: "both" }), (e) => e.code === "internal_error");
console.log("evaluate error");

await call("evaluateDefault", opa.evaluateDefault({ user: "ada" }), { asked: { user: "ada" }, allowed: true });
await call("evaluateDefault without input", opa.evaluateDefault(), { asked: {}, allowed: false });

const batch = { one: { user: "ada" }, two: { user: "eve" } };
await call("evaluateBatch", opa.evaluateBatch("app/allow", batch, { fallback: false }), { one: true, two: false });
const mixed = await opa.evaluateBatch("app/conflict", { good: { user: "ada" }, bad: { user: "both" } }, { fallback: false });
assert.equal(mixed.good, 1);
assert.equal(mixed.bad.code, "internal_error");
assert.equal(mixed.bad.httpStatusCode, "500");
console.log("evaluateBatch mixed");
await assert.rejects(opa.evaluateBatch("app/conflict", { good: { user: "ada" }, bad: { user: "both" } }, { fallback: false, rejectMixed: true }), (e) => e.code === "internal_error");
console.log("evaluateBatch rejectMixed");

const filters = (target) => opa.getFilters("filters/include", { favourite: "red" }, { target });
assert.equal((await filters("postgresql")).query, "WHERE (fruits.colour = E'red' AND fruits.price < E'10')");
console.log("getFilters postgresql");
assert.equal((await filters("mysql")).query, "WHERE (fruits.colour = 'red' AND fruits.price < '10')");
console.log("getFilters mysql");
await call("getFilters ucast", filters("ucastMinimal").then((f) => f.query), {
  type: "compound", operator: "and", value: [
    { type: "field", operator: "eq", field: "fruits.colour", value: "red" },
    { type: "field", operator: "lt", field: "fruits.price", value: 10 },
  ],
});
await call("getFilters prisma", opa.getFilters("filters/include", { favourite: "red" }, "fruits").then((f) => f.query), {
  AND: [{ colour: { equals: "red" } }, { price: { lt: 10 } }],
});
const many = await opa.getMultipleFilters("filters/include", { favourite: "red" }, { targets: ["sqlite", "ucastPrisma"] });
assert.equal(many.sqlite.query, "WHERE (fruits.colour = 'red' AND fruits.price < '10')");
console.log("getMultipleFilters");
