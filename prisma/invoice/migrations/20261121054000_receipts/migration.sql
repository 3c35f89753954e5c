-- What each side knows of the other's sequence, and what is sent again. @see docs/spec/payload.md §6

ALTER TABLE "peer"
    ADD COLUMN "in_base" BIGINT NOT NULL DEFAULT 0,
    ADD COLUMN "in_seq" BIGINT NOT NULL DEFAULT -1,
    ADD COLUMN "in_hash" BYTEA,
    ADD COLUMN "in_fork" BIGINT,
    ADD COLUMN "in_missing" BIGINT NOT NULL DEFAULT 0,
    ADD COLUMN "heard_seq" BIGINT NOT NULL DEFAULT -1,
    ADD COLUMN "ask_at" TIMESTAMPTZ(3),
    ADD COLUMN "asks" INTEGER NOT NULL DEFAULT 0,
    ADD COLUMN "status_message" UUID,
    ADD COLUMN "voided_at" TIMESTAMPTZ(3),
    ADD COLUMN "contradicted_at" TIMESTAMPTZ(3),
    ADD CONSTRAINT "peer_in_head" CHECK (("in_hash" IS NULL) = ("in_seq" = -1));
CREATE INDEX "peer_ask_due" ON "peer"("ask_at") WHERE "ask_at" IS NOT NULL;

ALTER TABLE "message"
    ADD COLUMN "relay_id" UUID,
    ADD COLUMN "sent_at" TIMESTAMPTZ(3),
    ADD COLUMN "again_at" TIMESTAMPTZ(3),
    ADD COLUMN "agains" INTEGER NOT NULL DEFAULT 0,
    ADD COLUMN "confirmed_at" TIMESTAMPTZ(3),
    ADD COLUMN "off_chain" BOOLEAN NOT NULL DEFAULT false;
CREATE UNIQUE INDEX "message_relay_id" ON "message"("relay_id") WHERE "relay_id" IS NOT NULL;
CREATE INDEX "message_again_due" ON "message"("again_at") WHERE "again_at" IS NOT NULL;
CREATE INDEX "message_unconfirmed" ON "message"("peer", "seq") WHERE "confirmed_at" IS NULL AND "seq" IS NOT NULL;

CREATE INDEX "inbound_refused_places" ON "inbound"("peer", "seq") WHERE "outcome" = 'refused' AND "seq" IS NOT NULL;

-- Positions of a peer that hold nothing and never will.
CREATE TABLE "inbound_void" (
    "peer" TEXT NOT NULL,
    "from_seq" BIGINT NOT NULL,
    "to_seq" BIGINT NOT NULL CHECK ("to_seq" >= "from_seq"),
    PRIMARY KEY ("peer", "from_seq", "to_seq")
);
