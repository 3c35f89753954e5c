-- Identities that can be renewed: earlier keys stay as public history, a peer's new identity waits for a person.

-- AlterTable
ALTER TABLE "identity_key" DROP CONSTRAINT "identity_key_pkey",
    ALTER COLUMN "sealed" DROP NOT NULL,
    ADD COLUMN "succession" BYTEA,
    ADD COLUMN "retired_at" TIMESTAMPTZ(3),
    ADD CONSTRAINT "identity_key_pkey" PRIMARY KEY ("kind", "version");

-- AlterTable
ALTER TABLE "peer"
    ADD COLUMN "pending_certificate" BYTEA,
    ADD COLUMN "pending_digest" BYTEA,
    ADD COLUMN "pending_at" TIMESTAMPTZ(3),
    ADD COLUMN "own_identity" INTEGER NOT NULL DEFAULT 1;

-- AlterTable
ALTER TABLE "peer_certificate" ADD COLUMN "sign_key" BYTEA;
UPDATE "peer_certificate" SET "sign_key" = "peer"."sign_key" FROM "peer" WHERE "peer"."fleet_id" = "peer_certificate"."fleet_id";
ALTER TABLE "peer_certificate" ALTER COLUMN "sign_key" SET NOT NULL;

-- CreateTable
CREATE TABLE "identity_renewal" (
    "request_id" UUID NOT NULL,
    "version" INTEGER NOT NULL,
    "sequence" INTEGER NOT NULL,
    "sessions_wiped" INTEGER NOT NULL,
    "prekeys_destroyed" INTEGER NOT NULL,
    "renewed_at" TIMESTAMPTZ(3) NOT NULL,

    CONSTRAINT "identity_renewal_pkey" PRIMARY KEY ("request_id")
);

-- CreateIndex
CREATE UNIQUE INDEX "identity_renewal_version_key" ON "identity_renewal"("version");

-- CreateIndex
CREATE INDEX "prekey_handed_to_kind_idx" ON "prekey"("handed_to", "kind");

-- CreateIndex
CREATE INDEX "handshake_seen_seen_at_idx" ON "handshake_seen"("seen_at");

-- What the schema language cannot say.

-- A retired identity key has no secret any longer; the present one has it, and nothing that follows it.
CREATE UNIQUE INDEX "identity_key_one_present" ON "identity_key"("kind") WHERE "retired_at" IS NULL;
ALTER TABLE "identity_key" ADD CONSTRAINT "identity_key_retired_is_public" CHECK (("retired_at" IS NULL) = ("sealed" IS NOT NULL));
ALTER TABLE "identity_key" ADD CONSTRAINT "identity_key_succession" CHECK (("succession" IS NOT NULL) = ("kind" = 'sign' AND "retired_at" IS NOT NULL));
ALTER TABLE "peer" ADD CONSTRAINT "peer_pending" CHECK (("pending_certificate" IS NULL) = ("pending_digest" IS NULL) AND ("pending_digest" IS NULL) = ("pending_at" IS NULL));
