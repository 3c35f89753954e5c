-- invoice-svc, first schema.

CREATE TABLE "peer" (
    "fleet_id" TEXT PRIMARY KEY,
    "display_name" TEXT NOT NULL,
    "certificate" BYTEA NOT NULL,
    "certificate_digest" BYTEA NOT NULL,
    "sequence" BIGINT NOT NULL,
    "fingerprint" TEXT NOT NULL,
    "peer_ids" TEXT[],
    "multiaddrs" TEXT[],
    "state" TEXT NOT NULL CHECK ("state" IN ('pending', 'active', 'blocked', 'removed')),
    "verified" BOOLEAN NOT NULL DEFAULT false,
    "version" INTEGER NOT NULL DEFAULT 1,
    "synced_version" INTEGER NOT NULL DEFAULT 0,
    "sync_attempts" INTEGER NOT NULL DEFAULT 0,
    "next_sync_at" TIMESTAMPTZ(3) NOT NULL DEFAULT CURRENT_TIMESTAMP,
    "cause" TEXT,
    "out_seq" BIGINT NOT NULL DEFAULT 0,
    "out_hash" BYTEA NOT NULL DEFAULT '\x0000000000000000000000000000000000000000000000000000000000000000'::bytea,
    "pinned_at" TIMESTAMPTZ(3) NOT NULL,
    "updated_at" TIMESTAMPTZ(3) NOT NULL
);
CREATE INDEX "peer_unsynced" ON "peer"("next_sync_at") WHERE "synced_version" < "version";

CREATE TABLE "consent" (
    "id" UUID PRIMARY KEY,
    "peer" TEXT NOT NULL,
    "purpose" TEXT NOT NULL CHECK ("purpose" IN ('share', 'log')),
    "kinds" TEXT[],
    "granted_by" TEXT NOT NULL,
    "granted_at" TIMESTAMPTZ(3) NOT NULL,
    "expires_at" TIMESTAMPTZ(3),
    "withdrawn_at" TIMESTAMPTZ(3)
);
CREATE INDEX "consent_peer_purpose_idx" ON "consent"("peer", "purpose");

CREATE TABLE "document" (
    "id" UUID PRIMARY KEY,
    "kind" TEXT NOT NULL CHECK ("kind" IN ('invoice', 'credit-note')),
    "state" TEXT NOT NULL CHECK ("state" IN ('draft', 'issued')),
    "number" TEXT,
    "source" TEXT NOT NULL CHECK ("source" IN ('json', 'ubl')),
    "terms" JSONB NOT NULL,
    "summary" JSONB NOT NULL,
    "body" BYTEA,
    "content_digest" BYTEA,
    "version" INTEGER NOT NULL DEFAULT 1,
    "created_by" TEXT NOT NULL,
    "created_at" TIMESTAMPTZ(3) NOT NULL,
    "updated_at" TIMESTAMPTZ(3) NOT NULL,
    "issued_at" TIMESTAMPTZ(3),
    CHECK (("state" = 'issued') = ("body" IS NOT NULL AND "content_digest" IS NOT NULL AND "number" IS NOT NULL AND "issued_at" IS NOT NULL))
);
CREATE INDEX "document_kind_id_idx" ON "document"("kind", "id");
-- Not unique: a document may bring its number along, and then whoever gave it answers for it. Numbers given here are
-- unique by the locked row of their series, which skips those that are taken.
CREATE INDEX "document_kind_number_idx" ON "document"("kind", "number");

-- What was issued stays as it was issued, whoever writes to this table.
CREATE FUNCTION "refuse_change_of_issued_document"() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'an issued document is frozen' USING ERRCODE = 'restrict_violation';
END
$$;
CREATE TRIGGER "document_frozen" BEFORE UPDATE OR DELETE ON "document"
    FOR EACH ROW WHEN (OLD."state" = 'issued') EXECUTE FUNCTION "refuse_change_of_issued_document"();

CREATE TABLE "number_series" (
    "series" TEXT PRIMARY KEY,
    "last" BIGINT NOT NULL
);

CREATE TABLE "share" (
    "id" UUID PRIMARY KEY,
    "document_id" UUID NOT NULL,
    "kind" TEXT NOT NULL,
    "peer" TEXT NOT NULL,
    "message_id" UUID NOT NULL,
    "content_digest" BYTEA NOT NULL,
    "state" TEXT NOT NULL CHECK ("state" IN ('queued', 'sealed', 'relayed', 'stored', 'delivered', 'accepted', 'rejected', 'disputed', 'paid', 'refused', 'cancelled')),
    "queued_at" TIMESTAMPTZ(3) NOT NULL,
    "sealed_at" TIMESTAMPTZ(3),
    "relayed_at" TIMESTAMPTZ(3),
    "stored_at" TIMESTAMPTZ(3),
    "delivered_at" TIMESTAMPTZ(3),
    "decided_at" TIMESTAMPTZ(3),
    "paid_at" TIMESTAMPTZ(3),
    "ended_at" TIMESTAMPTZ(3),
    "cause" TEXT,
    "last_code" TEXT,
    "attempts" INTEGER NOT NULL DEFAULT 0,
    "next_attempt_at" TIMESTAMPTZ(3),
    "receipt" BYTEA,
    "receipt_at" TIMESTAMPTZ(3),
    "verdict_seq" BIGINT,
    "created_by" TEXT NOT NULL
);
CREATE INDEX "share_document_id_idx" ON "share"("document_id");
CREATE INDEX "share_peer_idx" ON "share"("peer");
CREATE UNIQUE INDEX "share_message_once" ON "share"("message_id");
-- One live share of a document per peer: asking again gives the one that is under way.
CREATE UNIQUE INDEX "share_live_once" ON "share"("document_id", "peer") WHERE "state" NOT IN ('refused', 'cancelled');

CREATE TABLE "message" (
    "id" UUID PRIMARY KEY,
    "peer" TEXT NOT NULL,
    "kind" TEXT NOT NULL CHECK ("kind" IN ('document', 'receipt', 'verdict', 'log-proof')),
    "class" TEXT NOT NULL CHECK ("class" IN ('application', 'control')),
    "body" BYTEA NOT NULL,
    "content_digest" BYTEA NOT NULL,
    "signed_kind" TEXT,
    "document_id" UUID,
    "statement" BYTEA,
    "certificate" BYTEA,
    "peer_certificate" BYTEA,
    "payload" BYTEA,
    "seq" BIGINT,
    "state" TEXT NOT NULL CHECK ("state" IN ('queued', 'sealed', 'relayed', 'stored', 'refused', 'cancelled')),
    "envelope_digest" BYTEA,
    "hop_receipt" BYTEA,
    "attempts" INTEGER NOT NULL DEFAULT 0,
    "lease_until" TIMESTAMPTZ(3),
    "lease_token" UUID,
    "next_attempt_at" TIMESTAMPTZ(3) NOT NULL,
    "last_code" TEXT,
    "cause" TEXT,
    "created_at" TIMESTAMPTZ(3) NOT NULL,
    "sealed_at" TIMESTAMPTZ(3),
    "relayed_at" TIMESTAMPTZ(3),
    "stored_at" TIMESTAMPTZ(3),
    CHECK (("payload" IS NULL) = ("seq" IS NULL))
);
CREATE INDEX "message_peer_seq_idx" ON "message"("peer", "seq");
CREATE INDEX "message_lease_token_idx" ON "message"("lease_token") WHERE "lease_token" IS NOT NULL;
CREATE INDEX "message_due" ON "message"("next_attempt_at", "id") WHERE "state" IN ('queued', 'sealed');

CREATE TABLE "inbox" (
    "id" UUID PRIMARY KEY,
    "peer" TEXT NOT NULL,
    "document_id" UUID NOT NULL,
    "kind" TEXT NOT NULL,
    "message_id" UUID NOT NULL,
    "number" TEXT NOT NULL,
    "terms" JSONB NOT NULL,
    "summary" JSONB NOT NULL,
    "body" BYTEA NOT NULL,
    "content_digest" BYTEA NOT NULL,
    "statement" BYTEA NOT NULL,
    "certificate" BYTEA NOT NULL,
    "own_certificate" BYTEA NOT NULL,
    "verification" JSONB NOT NULL,
    "state" TEXT NOT NULL CHECK ("state" IN ('received', 'accepted', 'rejected', 'disputed', 'paid')),
    "received_at" TIMESTAMPTZ(3) NOT NULL,
    "decided_at" TIMESTAMPTZ(3)
);
CREATE UNIQUE INDEX "inbox_peer_document_id_key" ON "inbox"("peer", "document_id");

CREATE TABLE "inbound" (
    "peer" TEXT NOT NULL,
    "envelope_digest" BYTEA NOT NULL,
    "message_id" UUID,
    "kind" TEXT,
    "content_digest" BYTEA,
    "seq" BIGINT,
    "prev_hash" BYTEA,
    "payload_hash" BYTEA,
    "outcome" TEXT NOT NULL CHECK ("outcome" IN ('taken', 'refused')),
    "code" TEXT,
    "receipt_message_id" UUID,
    "received_at" TIMESTAMPTZ(3) NOT NULL,
    PRIMARY KEY ("peer", "envelope_digest")
);
CREATE UNIQUE INDEX "inbound_message_once" ON "inbound"("peer", "message_id") WHERE "outcome" = 'taken';
CREATE INDEX "inbound_peer_seq" ON "inbound"("peer", "seq");

CREATE TABLE "statement_nonce" (
    "peer" TEXT NOT NULL,
    "nonce" BYTEA NOT NULL,
    "expires_at" TIMESTAMPTZ(3) NOT NULL,
    PRIMARY KEY ("peer", "nonce")
);
CREATE INDEX "statement_nonce_expires_at_idx" ON "statement_nonce"("expires_at");

CREATE TABLE "verdict" (
    "id" UUID PRIMARY KEY,
    "direction" TEXT NOT NULL CHECK ("direction" IN ('sent', 'received')),
    "peer" TEXT NOT NULL,
    "document_id" UUID NOT NULL,
    "verdict" TEXT NOT NULL CHECK ("verdict" IN ('accepted', 'rejected', 'disputed', 'paid')),
    "code" TEXT,
    "note" TEXT,
    "seq" BIGINT,
    "body" BYTEA NOT NULL,
    "statement" BYTEA,
    "at" TIMESTAMPTZ(3) NOT NULL
);
CREATE INDEX "verdict_peer_document_id_idx" ON "verdict"("peer", "document_id");

CREATE TABLE "sharing_event" (
    "event_id" UUID PRIMARY KEY,
    "type" TEXT NOT NULL CHECK ("type" IN ('MessageSent', 'MessageReceived')),
    "peer" TEXT NOT NULL,
    "document_id" UUID NOT NULL,
    "message_id" UUID NOT NULL,
    "kind" TEXT NOT NULL,
    "content_digest" BYTEA NOT NULL,
    "salt" BYTEA NOT NULL,
    "created_at" TIMESTAMPTZ(3) NOT NULL,
    "leaf" BYTEA,
    "leaf_index" BIGINT,
    "tree_size" BIGINT,
    "proof" BYTEA[],
    "note" TEXT,
    "vkey" TEXT,
    "proven_at" TIMESTAMPTZ(3),
    "proof_message" UUID
);
CREATE INDEX "sharing_event_peer_document_id_idx" ON "sharing_event"("peer", "document_id");
CREATE INDEX "sharing_event_unproven" ON "sharing_event"("created_at") WHERE "proof_message" IS NULL;
CREATE UNIQUE INDEX "sharing_event_once" ON "sharing_event"("type", "peer", "message_id");

CREATE TABLE "peer_proof" (
    "peer" TEXT NOT NULL,
    "document_id" UUID NOT NULL,
    "leaf_hash" BYTEA NOT NULL,
    "leaf" BYTEA NOT NULL,
    "leaf_index" BIGINT NOT NULL,
    "tree_size" BIGINT NOT NULL,
    "proof" BYTEA[],
    "note" TEXT NOT NULL,
    "vkey" TEXT NOT NULL,
    "salt" BYTEA NOT NULL,
    "received_at" TIMESTAMPTZ(3) NOT NULL,
    PRIMARY KEY ("peer", "document_id", "leaf_hash")
);

CREATE TABLE "idempotency" (
    "client" TEXT NOT NULL,
    "key" TEXT NOT NULL,
    "operation" TEXT NOT NULL,
    "body_hash" BYTEA NOT NULL,
    "token" UUID NOT NULL,
    "lease_until" TIMESTAMPTZ(3) NOT NULL,
    "status" INTEGER,
    "answer" TEXT,
    "created_at" TIMESTAMPTZ(3) NOT NULL,
    PRIMARY KEY ("client", "key")
);
CREATE INDEX "idempotency_created_at_idx" ON "idempotency"("created_at");

-- Counters of one minute: not worth a write-ahead log; after a crash of the database they start at nothing.
CREATE UNLOGGED TABLE "rate_window" (
    "client" TEXT NOT NULL,
    "endpoint" TEXT NOT NULL,
    "hits" BIGINT[],
    "granted" BOOLEAN NOT NULL,
    "updated_at" TIMESTAMPTZ(3) NOT NULL,
    PRIMARY KEY ("client", "endpoint")
);

CREATE TABLE "change_event" (
    "id" BIGSERIAL PRIMARY KEY,
    "tx" BIGINT NOT NULL DEFAULT (pg_current_xact_id()::text::bigint),
    "at" TIMESTAMPTZ(3) NOT NULL,
    "topic" TEXT NOT NULL,
    "subject" TEXT NOT NULL,
    "data" JSONB NOT NULL
);
CREATE INDEX "change_event_tx_id_idx" ON "change_event"("tx", "id");
CREATE INDEX "change_event_at" ON "change_event"("at");

CREATE TABLE "audit_outbox" (
    "id" BIGSERIAL PRIMARY KEY,
    "event_id" UUID NOT NULL,
    "event" JSONB NOT NULL,
    "created_at" TIMESTAMPTZ(6) NOT NULL DEFAULT CURRENT_TIMESTAMP
);
CREATE UNIQUE INDEX "audit_outbox_event_id_key" ON "audit_outbox"("event_id");
