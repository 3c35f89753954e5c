/**
 * Code lists of EN 16931. Short lists are complete; the long ones of thousands of codes (units, reference qualifiers,
 * scheme identifiers) are held to the form of their codes.
 * @see docs/spec/ubl.md §8
 */

const words = (text: string): ReadonlySet<string> => new Set(text.trim().split(/\s+/))

/** ISO 4217, with the funds and precious metals */
export const CURRENCIES = words(`
AED AFN ALL AMD ANG AOA ARS AUD AWG AZN BAM BBD BDT BGN BHD BIF BMD BND BOB BOV BRL BSD BTN BWP BYN BZD CAD CDF CHE CHF
CHW CLF CLP CNY COP COU CRC CUC CUP CVE CZK DJF DKK DOP DZD EGP ERN ETB EUR FJD FKP GBP GEL GHS GIP GMD GNF GTQ GYD HKD
HNL HRK HTG HUF IDR ILS INR IQD IRR ISK JMD JOD JPY KES KGS KHR KMF KPW KRW KWD KYD KZT LAK LBP LKR LRD LSL LYD MAD MDL
MGA MKD MMK MNT MOP MRU MUR MVR MWK MXN MXV MYR MZN NAD NGN NIO NOK NPR NZD OMR PAB PEN PGK PHP PKR PLN PYG QAR RON RSD
RUB RWF SAR SBD SCR SDG SEK SGD SHP SLE SLL SOS SRD SSP STN SVC SYP SZL THB TJS TMT TND TOP TRY TTD TWD TZS UAH UGX USD
USN UYI UYU UYW UZS VED VES VND VUV WST XAF XAG XAU XBA XBB XBC XBD XCD XCG XDR XOF XPD XPF XPT XSU XTS XUA XXX YER ZAR
ZMW ZWG ZWL`)

/** ISO 3166-1 alpha-2, with the two user-assigned codes that invoices use (1A and XK for Kosovo, XI for Northern Ireland) */
export const COUNTRIES = words(`
1A XI XK AD AE AF AG AI AL AM AO AQ AR AS AT AU AW AX AZ BA BB BD BE BF BG BH BI BJ BL BM BN BO BQ BR BS BT BV BW BY BZ
CA CC CD CF CG CH CI CK CL CM CN CO CR CU CV CW CX CY CZ DE DJ DK DM DO DZ EC EE EG EH ER ES ET FI FJ FK FM FO FR GA GB
GD GE GF GG GH GI GL GM GN GP GQ GR GS GT GU GW GY HK HM HN HR HT HU ID IE IL IM IN IO IQ IR IS IT JE JM JO JP KE KG KH
KI KM KN KP KR KW KY KZ LA LB LC LI LK LR LS LT LU LV LY MA MC MD ME MF MG MH MK ML MM MN MO MP MQ MR MS MT MU MV MW MX
MY MZ NA NC NE NF NG NI NL NO NP NR NU NZ OM PA PE PF PG PH PK PL PM PN PR PS PT PW PY QA RE RO RS RU RW SA SB SC SD SE
SG SH SI SJ SK SL SM SN SO SR SS ST SV SX SY SZ TC TD TF TG TH TJ TK TL TM TN TO TR TT TV TW TZ UA UG UM US UY UZ VA VC
VE VG VI VN VU WF WS YE YT ZA ZM ZW`)

/** UNTDID 1001, the document types of EN 16931, by kind of document */
export const INVOICE_TYPES = words(`
71 80 82 84 102 130 202 203 204 211 218 219 295 325 326 331 380 382 383 384 385 386 387 388 389 390 393 394 395 456 457
471 472 473 500 501 527 553 575 623 633 751 780 817 870 875 876 877 935`)
export const CREDIT_NOTE_TYPES = words('81 83 261 262 296 308 381 396 420 458 502 503 532')

/** UNTDID 2005, as UBL writes BT-8 */
export const TAX_POINT_CODES = words('3 35 432')

/** UNTDID 4461 */
export const PAYMENT_MEANS = words(`
${Array.from({ length: 70 }, (_, index) => index + 1).join(' ')} 74 75 76 77 78 91 92 93 94 95 96 97 98 ZZZ`)

/** UNTDID 5305, the categories of EN 16931 */
export const VAT_CATEGORIES = words('AE L M E S Z G O K B')

/** UNTDID 5189, the allowance reasons of EN 16931 */
export const ALLOWANCE_REASONS = words('41 42 60 62 63 64 65 66 67 68 70 71 88 95 100 102 103 104 105')

/** UNTDID 7161, the charge reasons of EN 16931 */
export const CHARGE_REASONS = words(`
AA AAA AAC AAD AAE AAF AAH AAI AAS AAT AAV AAY AAZ ABA ABB ABC ABD ABF ABK ABL ABN ABR ABS ABT ABU ACF ACG ACH ACI ACJ
ACK ACL ACM ACS ADC ADE ADJ ADK ADL ADM ADN ADO ADP ADQ ADR ADT ADW ADY ADZ AEA AEB AEC AED AEF AEH AEI AEJ AEK AEL AEM
AEN AEO AEP AES AET AEU AEV AEW AEX AEY AEZ AJ AU CA CAB CAD CAE CAF CAI CAJ CAK CAL CAM CAN CAO CAP CAQ CAR CAS CAT CAU
CAV CAW CAX CAY CAZ CD CG CS CT DAB DAC DAD DAF DAG DAH DAI DAJ DAK DAL DAM DAN DAO DAP DAQ DL EG EP ER FAA FAB FAC FC FH
FI GAA HAA HD HH IAA IAB ID IF IR IS KO L1 LA LAA LAB LF MAE MI ML NAA OA PA PAA PC PL PRV RAB RAC RAD RAF RE RF RH RV SA
SAA SAD SAE SAI SG SH SM SU TAB TAC TT TV V1 V2 WH XAA YY ZZZ`)

/** UNTDID 7143, item classification schemes */
export const CLASSIFICATIONS = words(`
AA AB AC AD AE AF AG AH AI AJ AK AL AM AN AO AP AQ AR AS AT AU AV AW AX AY AZ BA BB BC BD BE BF BG BH BI BJ BK BL BM BN
BO BP BQ BR BS BT BU BV BW BX BY BZ CC CG CL CR CV DR DW EC EF EMD EN FS GB GMN GN GS HS IB IN IS IT IZ MA MF MN MP NB ON
PD PL PO PPI PV QS RC RN RU RY SA SG SK SN SRS SRT SRU SRV SRW SRX SRY SRZ SS SSA SSB SSC SSD SSE SSF SSG SSH SSI SSJ SSK
SSL SSM SSN SSO SSP SSQ SSR SSS SST SSU SSV SSW SSX SSY SSZ ST STA STB STC STD STE STF STG STH STI STJ STK STL STM STN STO
STP STQ STR STS STT STU STV STW STX STY STZ SUA SUB SUC SUD SUE SUF SUG SUH SUI SUJ SUK SUL SUM TG TSN TSO TSP TSQ TSR TSS
TST TSU UA UP VN VP VS VX ZZZ`)

/** Media types of BT-125-1 */
export const MIME_CODES = words(`
application/pdf image/png image/jpeg text/csv application/vnd.openxmlformats-officedocument.spreadsheetml.sheet
application/vnd.oasis.opendocument.spreadsheet`)

/** Lists that are held to the form of their codes. */
export const FORMS = {
  /** UNTDID 1153: two or three letters; none of three begins with X */
  reference: /^(?!X[A-Z]{2}$)[A-Z]{2,3}$/,
  /** UNTDID 4451: three letters */
  noteSubject: /^[A-Z]{3}$/,
  /** ISO/IEC 6523: the registered numbers 0002 to 0249, without the withdrawn 0181 and 0182 */
  icd: /^0(?:00[2-9]|0[1-9][0-9]|1[0-79][0-9]|18[03-9]|2[0-4][0-9])$/,
  /** EAS: an ICD, a VAT number scheme 99xx, or one of the five network types */
  electronicAddress: /^(?:0(?:00[2-9]|0[1-9][0-9]|1[0-79][0-9]|18[03-9]|2[0-4][0-9])|99[0-9]{2}|AN|AQ|AS|AU|EM)$/,
  /** UN/ECE Recommendation 20 (two or three characters) and 21 (X and two characters) */
  unit: /^(?:[A-Z0-9]{2,3})$/,
  /** CEF VATEX */
  exemption: /^VATEX-[A-Z]{2}-[A-Z0-9-]+$/i,
} as const
