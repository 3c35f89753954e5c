-- Recovery per peer, rotation wishes, and the fence that shows a database that was put back.

-- AlterTable
ALTER TABLE "peer"
    ADD COLUMN "recovery" TEXT NOT NULL DEFAULT 'ok',
    ADD COLUMN "recovery_reason" TEXT NOT NULL DEFAULT '',
    ADD COLUMN "recovery_since" TIMESTAMPTZ(3),
    ADD COLUMN "recovery_failures" INTEGER NOT NULL DEFAULT 0,
    ADD COLUMN "resync_attempts" INTEGER NOT NULL DEFAULT 0,
    ADD COLUMN "resync_sent_at" TIMESTAMPTZ(3),
    ADD COLUMN "resync_day" TIMESTAMPTZ(3),
    ADD COLUMN "resyncs_today" INTEGER NOT NULL DEFAULT 0,
    ADD COLUMN "resync_allowed_until" TIMESTAMPTZ(3),
    ADD COLUMN "rotate_every" INTEGER,
    ADD COLUMN "rotate_requested" BOOLEAN NOT NULL DEFAULT false,
    ADD COLUMN "rotation_failed_at" TIMESTAMPTZ(3),
    ADD COLUMN "early_epoch" INTEGER,
    ADD COLUMN "early_since" TIMESTAMPTZ(3);

-- AlterTable
ALTER TABLE "session" ADD COLUMN "lost" BOOLEAN NOT NULL DEFAULT false;

-- CreateTable
CREATE TABLE "fence" (
    "id" INTEGER NOT NULL,
    "database_id" UUID NOT NULL,
    "created_at" TIMESTAMPTZ(3) NOT NULL,
    "restored_at" TIMESTAMPTZ(3),

    CONSTRAINT "fence_pkey" PRIMARY KEY ("id")
);

-- CreateTable
CREATE TABLE "prefetched_bundle" (
    "fleet_id" TEXT NOT NULL,
    "bundle" BYTEA NOT NULL,
    "fetched_at" TIMESTAMPTZ(3) NOT NULL,

    CONSTRAINT "prefetched_bundle_pkey" PRIMARY KEY ("fleet_id")
);

-- CreateIndex
CREATE INDEX "opened_envelope_opened_at_idx" ON "opened_envelope"("opened_at");

-- What the schema language cannot say.

-- Grows with every sealing transaction, also with those that are undone; compared with a number kept outside.
CREATE SEQUENCE "generation_seq" AS BIGINT MINVALUE 1 NO CYCLE;

ALTER TABLE "peer" ADD CONSTRAINT "peer_recovery" CHECK ("recovery" IN ('ok', 'suspect', 'resync_required', 'resync_sent'));
ALTER TABLE "peer" ADD CONSTRAINT "peer_rotate_every" CHECK ("rotate_every" BETWEEN 1 AND 100);
ALTER TABLE "session" ADD CONSTRAINT "session_lost_is_not_active" CHECK (NOT ("lost" AND "active"));
ALTER TABLE "fence" ADD CONSTRAINT "fence_one_row" CHECK ("id" = 1);
