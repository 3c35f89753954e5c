-- CreateTable
CREATE TABLE "identity_key" (
    "kind" TEXT NOT NULL,
    "public_key" BYTEA NOT NULL,
    "sealed" BYTEA NOT NULL,
    "kek_id" TEXT NOT NULL,
    "version" INTEGER NOT NULL,
    "created_at" TIMESTAMPTZ(3) NOT NULL,

    CONSTRAINT "identity_key_pkey" PRIMARY KEY ("kind")
);

-- CreateTable
CREATE TABLE "certificate" (
    "sequence" INTEGER NOT NULL,
    "digest" BYTEA NOT NULL,
    "certificate" BYTEA NOT NULL,
    "peer_ids" TEXT[],
    "log_key" BYTEA NOT NULL,
    "not_after" TIMESTAMPTZ(3) NOT NULL,
    "issued_at" TIMESTAMPTZ(3) NOT NULL,

    CONSTRAINT "certificate_pkey" PRIMARY KEY ("sequence")
);

-- CreateTable
CREATE TABLE "peer" (
    "fleet_id" TEXT NOT NULL,
    "display_name" TEXT NOT NULL,
    "sign_key" BYTEA NOT NULL,
    "dh_key" BYTEA NOT NULL,
    "certificate" BYTEA NOT NULL,
    "certificate_digest" BYTEA NOT NULL,
    "sequence" INTEGER NOT NULL,
    "peer_ids" TEXT[],
    "trust" TEXT NOT NULL,
    "pinned_at" TIMESTAMPTZ(3) NOT NULL,
    "updated_at" TIMESTAMPTZ(3) NOT NULL,

    CONSTRAINT "peer_pkey" PRIMARY KEY ("fleet_id")
);

-- CreateTable
CREATE TABLE "peer_certificate" (
    "digest" BYTEA NOT NULL,
    "fleet_id" TEXT NOT NULL,
    "sequence" INTEGER NOT NULL,
    "certificate" BYTEA NOT NULL,
    "adopted_at" TIMESTAMPTZ(3) NOT NULL,

    CONSTRAINT "peer_certificate_pkey" PRIMARY KEY ("digest")
);

-- CreateTable
CREATE TABLE "prekey" (
    "id" SERIAL NOT NULL,
    "kind" TEXT NOT NULL,
    "public_key" BYTEA NOT NULL,
    "signature" BYTEA,
    "sealed" BYTEA NOT NULL,
    "kek_id" TEXT NOT NULL,
    "version" INTEGER NOT NULL,
    "created_at" TIMESTAMPTZ(3) NOT NULL,
    "handed_at" TIMESTAMPTZ(3),
    "handed_to" TEXT,
    "retired_at" TIMESTAMPTZ(3),

    CONSTRAINT "prekey_pkey" PRIMARY KEY ("id")
);

-- CreateTable
CREATE TABLE "session" (
    "sid" BYTEA NOT NULL,
    "fleet_id" TEXT NOT NULL,
    "epoch" INTEGER NOT NULL,
    "role" TEXT NOT NULL,
    "ephemeral_key" BYTEA NOT NULL,
    "state" BYTEA,
    "kek_id" TEXT NOT NULL,
    "version" INTEGER NOT NULL,
    "handshake" BYTEA,
    "active" BOOLEAN NOT NULL,
    "confirmed" BOOLEAN NOT NULL,
    "sent_application" INTEGER NOT NULL DEFAULT 0,
    "sent_control" INTEGER NOT NULL DEFAULT 0,
    "received" INTEGER NOT NULL DEFAULT 0,
    "started_at" TIMESTAMPTZ(3) NOT NULL,
    "last_used_at" TIMESTAMPTZ(3) NOT NULL,
    "retired_at" TIMESTAMPTZ(3),
    "wiped_at" TIMESTAMPTZ(3),

    CONSTRAINT "session_pkey" PRIMARY KEY ("sid")
);

-- CreateTable
CREATE TABLE "handshake_seen" (
    "spk_id" INTEGER NOT NULL,
    "pq_id" INTEGER NOT NULL,
    "ephemeral_key" BYTEA NOT NULL,
    "fleet_id" TEXT NOT NULL,
    "sid" BYTEA NOT NULL,
    "seen_at" TIMESTAMPTZ(3) NOT NULL,

    CONSTRAINT "handshake_seen_pkey" PRIMARY KEY ("spk_id","pq_id","ephemeral_key")
);

-- CreateTable
CREATE TABLE "sealed_envelope" (
    "message_id" UUID NOT NULL,
    "fleet_id" TEXT NOT NULL,
    "sid" BYTEA NOT NULL,
    "epoch" INTEGER NOT NULL,
    "class" TEXT NOT NULL,
    "envelope" BYTEA,
    "fingerprint" BYTEA NOT NULL,
    "kek_id" TEXT NOT NULL,
    "sealed_at" TIMESTAMPTZ(3) NOT NULL,

    CONSTRAINT "sealed_envelope_pkey" PRIMARY KEY ("message_id")
);

-- CreateTable
CREATE TABLE "opened_envelope" (
    "digest" BYTEA NOT NULL,
    "fleet_id" TEXT NOT NULL,
    "sid" BYTEA NOT NULL,
    "epoch" INTEGER NOT NULL,
    "plaintext" BYTEA,
    "kek_id" TEXT NOT NULL,
    "version" INTEGER NOT NULL,
    "opened_at" TIMESTAMPTZ(3) NOT NULL,
    "acknowledged_at" TIMESTAMPTZ(3),
    "replays" INTEGER NOT NULL DEFAULT 0,

    CONSTRAINT "opened_envelope_pkey" PRIMARY KEY ("digest")
);

-- CreateTable
CREATE TABLE "bundle_quota" (
    "fleet_id" TEXT NOT NULL,
    "window_start" TIMESTAMPTZ(3) NOT NULL,
    "taken" INTEGER NOT NULL,

    CONSTRAINT "bundle_quota_pkey" PRIMARY KEY ("fleet_id")
);

-- CreateTable
CREATE TABLE "audit_outbox" (
    "id" BIGSERIAL NOT NULL,
    "event_id" UUID NOT NULL,
    "event" JSONB NOT NULL,
    "created_at" TIMESTAMPTZ(6) NOT NULL DEFAULT CURRENT_TIMESTAMP,

    CONSTRAINT "audit_outbox_pkey" PRIMARY KEY ("id")
);

-- CreateIndex
CREATE UNIQUE INDEX "certificate_digest_key" ON "certificate"("digest");

-- CreateIndex
CREATE INDEX "prekey_kind_handed_at_id_idx" ON "prekey"("kind", "handed_at", "id");

-- CreateIndex
CREATE UNIQUE INDEX "session_ephemeral_key_key" ON "session"("ephemeral_key");

-- CreateIndex
CREATE INDEX "session_fleet_id_epoch_idx" ON "session"("fleet_id", "epoch");

-- CreateIndex
CREATE INDEX "sealed_envelope_sealed_at_idx" ON "sealed_envelope"("sealed_at");

-- CreateIndex
CREATE UNIQUE INDEX "audit_outbox_event_id_key" ON "audit_outbox"("event_id");

-- AddForeignKey
ALTER TABLE "session" ADD CONSTRAINT "session_fleet_id_fkey" FOREIGN KEY ("fleet_id") REFERENCES "peer"("fleet_id") ON DELETE RESTRICT ON UPDATE CASCADE;

-- What the schema language cannot say.

-- Two replicas can never both believe in another session to send on.
CREATE UNIQUE INDEX "session_one_active_per_peer" ON "session"("fleet_id") WHERE "active";

-- The database refuses what no code path should ask for.
ALTER TABLE "identity_key" ADD CONSTRAINT "identity_key_kind" CHECK ("kind" IN ('sign', 'agreement'));
ALTER TABLE "peer" ADD CONSTRAINT "peer_trust" CHECK ("trust" IN ('pinned', 'verified', 'blocked', 'removed'));
ALTER TABLE "prekey" ADD CONSTRAINT "prekey_kind" CHECK ("kind" IN ('signed', 'last-resort', 'one-time', 'pq-one-time'));
ALTER TABLE "session" ADD CONSTRAINT "session_role" CHECK ("role" IN ('initiator', 'responder'));
ALTER TABLE "session" ADD CONSTRAINT "session_active_has_state" CHECK (NOT "active" OR "state" IS NOT NULL);
