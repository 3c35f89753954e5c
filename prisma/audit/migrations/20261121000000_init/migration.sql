-- CreateTable
CREATE TABLE "audit_leaf" (
    "idx" BIGINT NOT NULL,
    "event_id" UUID NOT NULL,
    "stream" TEXT NOT NULL,
    "leaf" BYTEA NOT NULL,
    "leaf_hash" BYTEA NOT NULL,
    "appended_at" TIMESTAMPTZ(3) NOT NULL DEFAULT CURRENT_TIMESTAMP,

    CONSTRAINT "audit_leaf_pkey" PRIMARY KEY ("idx")
);

-- CreateTable
CREATE TABLE "audit_tile_node" (
    "level" SMALLINT NOT NULL,
    "idx" BIGINT NOT NULL,
    "hash" BYTEA NOT NULL,

    CONSTRAINT "audit_tile_node_pkey" PRIMARY KEY ("level","idx")
);

-- CreateTable
CREATE TABLE "audit_head" (
    "id" SMALLINT NOT NULL,
    "size" BIGINT NOT NULL,
    "root" BYTEA NOT NULL,
    "frontier" BYTEA NOT NULL,
    "checkpoint_size" BIGINT NOT NULL,
    "log_key" BYTEA,
    "origin" TEXT,
    "halted_at" TIMESTAMPTZ(3),
    "halted_reason" TEXT,

    CONSTRAINT "audit_head_pkey" PRIMARY KEY ("id")
);

-- CreateTable
CREATE TABLE "audit_checkpoint" (
    "size" BIGINT NOT NULL,
    "root" BYTEA NOT NULL,
    "note" TEXT NOT NULL,
    "signed_at" TIMESTAMPTZ(3) NOT NULL,

    CONSTRAINT "audit_checkpoint_pkey" PRIMARY KEY ("size")
);

-- CreateTable
CREATE TABLE "audit_outbox" (
    "id" BIGSERIAL NOT NULL,
    "event_id" UUID NOT NULL,
    "event" JSONB NOT NULL,
    "created_at" TIMESTAMPTZ(3) NOT NULL DEFAULT CURRENT_TIMESTAMP,

    CONSTRAINT "audit_outbox_pkey" PRIMARY KEY ("id")
);

-- CreateIndex
CREATE UNIQUE INDEX "audit_leaf_event_id_key" ON "audit_leaf"("event_id");

-- CreateIndex
CREATE INDEX "audit_leaf_stream_idx_idx" ON "audit_leaf"("stream", "idx");

-- CreateIndex
CREATE UNIQUE INDEX "audit_outbox_event_id_key" ON "audit_outbox"("event_id");

-- Forms that no code path should ever break.
ALTER TABLE "audit_leaf"
    ADD CONSTRAINT "audit_leaf_form" CHECK ("idx" >= 0 AND octet_length("leaf") BETWEEN 1 AND 4096 AND octet_length("leaf_hash") = 32 AND "stream" IN ('security', 'sharing'));
ALTER TABLE "audit_tile_node"
    ADD CONSTRAINT "audit_tile_node_form" CHECK ("level" > 0 AND "level" % 8 = 0 AND "idx" >= 0 AND octet_length("hash") = 32);
ALTER TABLE "audit_head"
    ADD CONSTRAINT "audit_head_form" CHECK ("id" = 1 AND "size" >= 0 AND octet_length("root") = 32 AND octet_length("frontier") % 32 = 0 AND "checkpoint_size" BETWEEN 0 AND "size"
        AND ("log_key" IS NULL OR octet_length("log_key") = 32));
ALTER TABLE "audit_checkpoint"
    ADD CONSTRAINT "audit_checkpoint_form" CHECK ("size" > 0 AND octet_length("root") = 32);

-- The empty tree: root = SHA-256 of nothing.
INSERT INTO "audit_head" ("id", "size", "root", "frontier", "checkpoint_size")
VALUES (1, 0, '\xe3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855', '\x', 0);

-- Append-only, enforced here for everybody, the owner included. ALWAYS: session_replication_role does not switch
-- these off. Per statement, so that even one that meets no row is refused; per row as well, for replication.
CREATE FUNCTION "audit_append_only"() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION '% on % is refused: the audit log is append-only', TG_OP, TG_TABLE_NAME USING ERRCODE = 'restrict_violation';
END
$$;

CREATE TRIGGER "audit_leaf_append_only" BEFORE UPDATE OR DELETE ON "audit_leaf" FOR EACH ROW EXECUTE FUNCTION "audit_append_only"();
CREATE TRIGGER "audit_leaf_no_rewrite" BEFORE UPDATE OR DELETE OR TRUNCATE ON "audit_leaf" FOR EACH STATEMENT EXECUTE FUNCTION "audit_append_only"();
CREATE TRIGGER "audit_tile_node_append_only" BEFORE UPDATE OR DELETE ON "audit_tile_node" FOR EACH ROW EXECUTE FUNCTION "audit_append_only"();
CREATE TRIGGER "audit_tile_node_no_rewrite" BEFORE UPDATE OR DELETE OR TRUNCATE ON "audit_tile_node" FOR EACH STATEMENT EXECUTE FUNCTION "audit_append_only"();
CREATE TRIGGER "audit_checkpoint_append_only" BEFORE UPDATE OR DELETE ON "audit_checkpoint" FOR EACH ROW EXECUTE FUNCTION "audit_append_only"();
CREATE TRIGGER "audit_checkpoint_no_rewrite" BEFORE UPDATE OR DELETE OR TRUNCATE ON "audit_checkpoint" FOR EACH STATEMENT EXECUTE FUNCTION "audit_append_only"();

-- The head only grows; key and origin are set once; a halted log stays halted.
CREATE FUNCTION "audit_head_grows"() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF OLD."halted_at" IS NOT NULL THEN
        RAISE EXCEPTION 'the audit log has stopped: %', OLD."halted_reason" USING ERRCODE = 'restrict_violation';
    END IF;
    IF NEW."id" <> OLD."id" OR NEW."size" < OLD."size" OR NEW."checkpoint_size" < OLD."checkpoint_size"
        OR (NEW."size" = OLD."size" AND NEW."root" <> OLD."root")
        OR (OLD."log_key" IS NOT NULL AND NEW."log_key" IS DISTINCT FROM OLD."log_key")
        OR (OLD."origin" IS NOT NULL AND NEW."origin" IS DISTINCT FROM OLD."origin") THEN
        RAISE EXCEPTION 'the head of the audit log only grows' USING ERRCODE = 'restrict_violation';
    END IF;
    RETURN NEW;
END
$$;

CREATE TRIGGER "audit_head_grows" BEFORE UPDATE ON "audit_head" FOR EACH ROW EXECUTE FUNCTION "audit_head_grows"();
CREATE TRIGGER "audit_head_no_delete" BEFORE DELETE ON "audit_head" FOR EACH ROW EXECUTE FUNCTION "audit_append_only"();
CREATE TRIGGER "audit_head_no_truncate" BEFORE TRUNCATE ON "audit_head" FOR EACH STATEMENT EXECUTE FUNCTION "audit_append_only"();

ALTER TABLE "audit_leaf" ENABLE ALWAYS TRIGGER "audit_leaf_append_only";
ALTER TABLE "audit_leaf" ENABLE ALWAYS TRIGGER "audit_leaf_no_rewrite";
ALTER TABLE "audit_tile_node" ENABLE ALWAYS TRIGGER "audit_tile_node_append_only";
ALTER TABLE "audit_tile_node" ENABLE ALWAYS TRIGGER "audit_tile_node_no_rewrite";
ALTER TABLE "audit_checkpoint" ENABLE ALWAYS TRIGGER "audit_checkpoint_append_only";
ALTER TABLE "audit_checkpoint" ENABLE ALWAYS TRIGGER "audit_checkpoint_no_rewrite";
ALTER TABLE "audit_head" ENABLE ALWAYS TRIGGER "audit_head_grows";
ALTER TABLE "audit_head" ENABLE ALWAYS TRIGGER "audit_head_no_delete";
ALTER TABLE "audit_head" ENABLE ALWAYS TRIGGER "audit_head_no_truncate";
