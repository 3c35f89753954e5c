-- Rows are sealed under data keys; the key-encryption key wraps those and nothing else. `kek_id` of the other tables
-- names the data key from now on: their values stay what they are, since the keys derived from the key file until now
-- become data key number one under the same name.
CREATE TABLE "data_key" (
    "id" TEXT NOT NULL,
    "version" INTEGER NOT NULL,
    "cipher" TEXT NOT NULL,
    "kek_id" TEXT NOT NULL,
    "wrapped" BYTEA NOT NULL,
    "created_at" TIMESTAMPTZ(3) NOT NULL,
    "retired_at" TIMESTAMPTZ(3),

    CONSTRAINT "data_key_pkey" PRIMARY KEY ("id")
);

CREATE UNIQUE INDEX "data_key_version_key" ON "data_key"("version");
