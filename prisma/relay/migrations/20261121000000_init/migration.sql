-- CreateTable
CREATE TABLE "peer" (
    "fleet_id" TEXT NOT NULL,
    "state" TEXT NOT NULL,
    "multiaddrs" TEXT[],
    "updated_at" TIMESTAMPTZ(6) NOT NULL DEFAULT CURRENT_TIMESTAMP,
    "last_error_code" TEXT,
    "last_error" TEXT,
    "failures" INTEGER NOT NULL DEFAULT 0,
    "next_attempt_at" TIMESTAMPTZ(3),
    "lease_owner" TEXT,
    "lease_until" TIMESTAMPTZ(3),

    CONSTRAINT "peer_pkey" PRIMARY KEY ("fleet_id"),
    CONSTRAINT "peer_state_check" CHECK ("state" IN ('allowed', 'blocked', 'removed'))
);

-- CreateTable
CREATE TABLE "peer_identity" (
    "peer_id" TEXT NOT NULL,
    "fleet_id" TEXT NOT NULL,

    CONSTRAINT "peer_identity_pkey" PRIMARY KEY ("peer_id")
);

-- CreateTable
CREATE TABLE "peer_address" (
    "fleet_id" TEXT NOT NULL,
    "address" TEXT NOT NULL,
    "last_seen" TIMESTAMPTZ(3) NOT NULL DEFAULT CURRENT_TIMESTAMP,

    CONSTRAINT "peer_address_pkey" PRIMARY KEY ("fleet_id", "address")
);

-- CreateTable
CREATE TABLE "outbound" (
    "id" BIGSERIAL NOT NULL,
    "message_id" UUID NOT NULL,
    "fleet_id" TEXT NOT NULL,
    "envelope" BYTEA,
    "digest" BYTEA NOT NULL,
    "size" INTEGER NOT NULL,
    "state" TEXT NOT NULL DEFAULT 'queued',
    "attempts" INTEGER NOT NULL DEFAULT 0,
    "next_attempt_at" TIMESTAMPTZ(3) NOT NULL DEFAULT CURRENT_TIMESTAMP,
    "created_at" TIMESTAMPTZ(3) NOT NULL DEFAULT CURRENT_TIMESTAMP,
    "settled_at" TIMESTAMPTZ(3),
    "hop_receipt" BYTEA,
    "code" TEXT,
    "cause" TEXT,
    "report_after" TIMESTAMPTZ(3) NOT NULL DEFAULT CURRENT_TIMESTAMP,
    "reported_at" TIMESTAMPTZ(3),

    CONSTRAINT "outbound_pkey" PRIMARY KEY ("id"),
    CONSTRAINT "outbound_state_check" CHECK ("state" IN ('queued', 'stored', 'refused')),
    CONSTRAINT "outbound_queued_has_bytes" CHECK ("state" <> 'queued' OR "envelope" IS NOT NULL)
);

-- CreateTable
CREATE TABLE "inbound" (
    "id" BIGSERIAL NOT NULL,
    "fleet_id" TEXT NOT NULL,
    "digest" BYTEA NOT NULL,
    "envelope" BYTEA,
    "size" INTEGER NOT NULL,
    "receipt" BYTEA NOT NULL,
    "received_at" TIMESTAMPTZ(3) NOT NULL,
    "state" TEXT NOT NULL DEFAULT 'queued',
    "code" TEXT,
    "attempts" INTEGER NOT NULL DEFAULT 0,
    "failures" INTEGER NOT NULL DEFAULT 0,
    "alone" BOOLEAN NOT NULL DEFAULT false,
    "next_attempt_at" TIMESTAMPTZ(3) NOT NULL DEFAULT CURRENT_TIMESTAMP,
    "lease_owner" TEXT,
    "settled_at" TIMESTAMPTZ(3),

    CONSTRAINT "inbound_pkey" PRIMARY KEY ("fleet_id", "digest"),
    CONSTRAINT "inbound_state_check" CHECK ("state" IN ('queued', 'taken', 'refused', 'quarantined')),
    CONSTRAINT "inbound_queued_has_bytes" CHECK ("state" <> 'queued' OR "envelope" IS NOT NULL)
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
CREATE INDEX "peer_identity_fleet_id_idx" ON "peer_identity"("fleet_id");

-- CreateIndex
CREATE UNIQUE INDEX "outbound_message_id_key" ON "outbound"("message_id");

-- CreateIndex
CREATE UNIQUE INDEX "inbound_id_key" ON "inbound"("id");

-- CreateIndex
CREATE UNIQUE INDEX "audit_outbox_event_id_key" ON "audit_outbox"("event_id");

-- AddForeignKey
ALTER TABLE "peer_identity" ADD CONSTRAINT "peer_identity_fleet_id_fkey" FOREIGN KEY ("fleet_id") REFERENCES "peer"("fleet_id") ON DELETE CASCADE ON UPDATE CASCADE;

-- AddForeignKey
ALTER TABLE "peer_address" ADD CONSTRAINT "peer_address_fleet_id_fkey" FOREIGN KEY ("fleet_id") REFERENCES "peer"("fleet_id") ON DELETE CASCADE ON UPDATE CASCADE;

-- The queues are small next to their history: partial indexes keep every look at them proportional to what waits.
CREATE INDEX "outbound_queued_idx" ON "outbound"("fleet_id", "id") INCLUDE ("size") WHERE "state" = 'queued';
CREATE INDEX "outbound_unreported_idx" ON "outbound"("id") WHERE "state" <> 'queued' AND "reported_at" IS NULL;
CREATE INDEX "outbound_settled_idx" ON "outbound"("settled_at") WHERE "state" <> 'queued';
CREATE INDEX "inbound_queued_idx" ON "inbound"("id") WHERE "state" = 'queued';
CREATE INDEX "inbound_quota_idx" ON "inbound"("fleet_id") INCLUDE ("size") WHERE "state" = 'queued';
CREATE INDEX "inbound_quarantine_idx" ON "inbound"("fleet_id", "id") INCLUDE ("size") WHERE "state" IN ('refused', 'quarantined') AND "envelope" IS NOT NULL;
CREATE INDEX "inbound_settled_idx" ON "inbound"("settled_at") WHERE "state" <> 'queued';

-- Ciphertext does not compress: do not try.
ALTER TABLE "outbound" ALTER COLUMN "envelope" SET STORAGE EXTERNAL;
ALTER TABLE "inbound" ALTER COLUMN "envelope" SET STORAGE EXTERNAL;
