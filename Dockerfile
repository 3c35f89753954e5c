# Two images from one build:
#   services  the four services and the command line; no compiler, no migration tool, no secrets
#   setup     what runs once before them: secrets of a new fleet, migrations of its database
# Only BuildKit's built-in syntax is used: nothing but the base image is pulled.
ARG NODE_IMAGE=node:24-bookworm-slim

# package.json files alone, so that a change of source code does not install everything anew.
FROM ${NODE_IMAGE} AS manifests
WORKDIR /app
COPY package.json package-lock.json .npmrc ./
COPY tools/no-native tools/no-native
COPY apps apps
COPY libs libs
RUN find apps libs -type f ! -name package.json ! -path '*/bin/*' -delete && find apps libs -type d -empty -delete

FROM ${NODE_IMAGE} AS build
WORKDIR /app
ENV CI=true CHECKPOINT_DISABLE=1
COPY --from=manifests /app ./
# No package's install script is needed: sodium and QUIC come as prebuilt files, Prisma's engine as WebAssembly.
RUN --mount=type=cache,target=/root/.npm npm ci --ignore-scripts
COPY . .
RUN npm run build

# What each image runs, and nothing else. A service started without its environment says so once all its modules are
# loaded: that proves them complete.
FROM build AS built-services
RUN node tools/container/trim.mjs services \
 && for service in invoice session relay audit; do node "apps/$service-svc/dist/main.js" 2>&1 | grep -q 'environment is not complete' || exit 1; done \
 && node apps/cli/bin/tallystick.mjs --help > /dev/null

FROM build AS built-setup
RUN node tools/container/trim.mjs setup \
 && node -e "import('@tallystick/nats-rpc/server-config')" \
 && PRISMA_SCHEMA_ENGINE_BINARY=/app/tools/prisma/schema-engine.mjs node node_modules/prisma/build/index.js validate --config prisma/invoice/prisma.config.ts

FROM ${NODE_IMAGE} AS base
WORKDIR /app
ENV NODE_ENV=production CHECKPOINT_DISABLE=1
# Named volumes take owner and mode from these folders.
RUN for folder in invoice-svc session-svc relay-svc audit-svc launcher; do install -d -o node -g node -m 700 "/run/tallystick/secrets/$folder"; done \
 && install -d -o node -g node -m 700 /run/tallystick/migrate /run/tallystick/tokens /run/tallystick/state \
 && install -d -o node -g node -m 755 /run/tallystick/nats /run/tallystick/postgres /run/tallystick/grafana

FROM base AS setup
COPY --from=built-setup /app/package.json ./
COPY --from=built-setup /app/node_modules node_modules
COPY --from=built-setup /app/libs libs
COPY prisma prisma
COPY tools/paths.ts tools/
COPY tools/container tools/container
COPY tools/prisma tools/prisma
COPY tools/secrets tools/secrets
COPY tools/postgres/scram.ts tools/postgres/
USER node
CMD ["node", "tools/container/prepare.ts", "prepare"]

FROM base AS services
COPY --from=built-services /app/package.json ./
COPY --from=built-services /app/node_modules node_modules
COPY --from=built-services /app/libs libs
COPY --from=built-services /app/apps apps
COPY tools/container/healthy.mjs tools/container/
USER node
HEALTHCHECK --interval=5s --timeout=4s --start-period=60s --retries=6 CMD ["node", "tools/container/healthy.mjs"]
CMD ["node", "apps/invoice-svc/dist/main.js"]
