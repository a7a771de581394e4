//! What the pages say, in English and in French. A text is a field that both languages have to have, or else nothing
//! compiles.
use crate::problem::Problem;
use axum::http::{HeaderMap, header};
use std::borrow::Cow;

/// Everything that is said in one language.
pub struct Texts {
    /// As in `lang` (BCP 47).
    pub lang: &'static str,
    pub signed_in_as: &'static str,
    pub sign_in: &'static str,
    pub sign_out: &'static str,
    pub sign_out_everywhere: &'static str,
    pub skip: &'static str,
    pub tabs: &'static str,
    pub login: &'static str,
    pub your_login: &'static str,
    pub password: &'static str,
    pub new_password: &'static str,
    pub again: &'static str,
    pub set_password: &'static str,
    pub set_the_password: &'static str,
    pub code: &'static str,
    pub present_password: &'static str,
    pub change_password: &'static str,
    pub change_it: &'static str,
    pub password_changed: &'static str,
    pub opens_nothing: &'static str,
    pub opens_by_command: &'static str,
    pub opens_by_key: &'static str,
    pub keys_by_others: &'static str,
    pub made_by: &'static str,
    pub let_it_open: &'static str,
    pub my_account: &'static str,
    pub display_name: &'static str,
    pub email: &'static str,
    pub none: &'static str,
    pub other_credentials: &'static str,
    pub other_credentials_are: &'static str,
    pub no_credentials: &'static str,
    pub name: &'static str,
    pub description: &'static str,
    pub value: &'static str,
    pub version: &'static str,
    pub created: &'static str,
    pub updated: &'static str,
    pub last_read: &'static str,
    pub last_read_is: &'static str,
    pub expires: &'static str,
    pub expires_optional: &'static str,
    pub expires_today: &'static str,
    pub expires_in: fn(i32) -> String,
    pub expired: &'static str,
    pub never: &'static str,
    pub add: &'static str,
    pub add_credential: &'static str,
    pub removed_ones: &'static str,
    pub removed: &'static str,
    pub removed_are: &'static str,
    pub restore: &'static str,
    pub undo: &'static str,
    pub back: &'static str,
    pub show: &'static str,
    pub hide: &'static str,
    pub show_is: &'static str,
    pub shown_for: fn(u32) -> String,
    pub edit: &'static str,
    pub new_value: &'static str,
    pub save: &'static str,
    pub versions: &'static str,
    pub current: &'static str,
    pub restore_version: fn(u64) -> String,
    pub remove: &'static str,
    pub remove_is: &'static str,
    pub in_code: &'static str,
    pub in_code_is: &'static str,
    pub changed_meanwhile: &'static str,
    pub nothing_stored: &'static str,
    pub you_saw: fn(u64) -> String,
    pub was_removed: &'static str,
    pub no_longer_removed: &'static str,
    pub value_as_before: &'static str,
    pub done: fn(Done) -> &'static str,
    pub api_keys: &'static str,
    pub api_keys_are: &'static str,
    pub no_keys: &'static str,
    pub label: &'static str,
    pub create_key: &'static str,
    pub create: &'static str,
    pub revoke: &'static str,
    pub last_used: &'static str,
    pub last_used_is: &'static str,
    pub opens: &'static str,
    pub yes: &'static str,
    pub not_yet: &'static str,
    pub new_key: &'static str,
    pub new_key_is: &'static str,
    pub activity: &'static str,
    pub activity_is: fn(usize, usize) -> String,
    pub no_events: &'static str,
    pub filter: &'static str,
    pub secret: &'static str,
    pub what: &'static str,
    pub since: &'static str,
    pub script: &'static str,
    pub all: &'static str,
    pub reads: &'static str,
    pub changes: &'static str,
    pub others: &'static str,
    pub days: fn(i64) -> String,
    pub when: &'static str,
    pub by: &'static str,
    pub from: &'static str,
    pub for_whom: fn(&str) -> String,
    pub refused: fn(&str) -> String,
    pub actions: &'static str,
    pub went_wrong: &'static str,
}

/// What was done before a page is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Done {
    Added,
    Saved,
    Removed,
    Restored,
    KeyRevoked,
    KeyConfirmed,
}

impl Done {
    const ALL: [Done; 6] =
        [Done::Added, Done::Saved, Done::Removed, Done::Restored, Done::KeyRevoked, Done::KeyConfirmed];

    /// As it is in an address.
    pub fn code(self) -> &'static str {
        match self {
            Done::Added => "added",
            Done::Saved => "saved",
            Done::Removed => "removed",
            Done::Restored => "restored",
            Done::KeyRevoked => "key-revoked",
            Done::KeyConfirmed => "key-confirmed",
        }
    }

    pub fn of(code: &str) -> Option<Done> {
        Done::ALL.into_iter().find(|done| done.code() == code)
    }
}

/// What somebody wanted who is told of a problem.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wanted {
    SignIn,
    Password,
    Link,
    Other,
}

static ENGLISH: Texts = Texts {
    lang: "en",
    signed_in_as: "You are signed in as",
    sign_in: "Sign in",
    sign_out: "Sign out",
    sign_out_everywhere: "Sign out of every browser",
    skip: "Skip to the content",
    tabs: "Profile",
    login: "Login",
    your_login: "Your login",
    password: "Password",
    new_password: "New password: at least 15 characters; several words are better than one",
    again: "The same again",
    set_password: "Set your password",
    set_the_password: "Set the password",
    code: "The code, which stands behind the # in the link",
    present_password: "Present password",
    change_password: "Change the password",
    change_it: "Change it",
    password_changed: "After that, sign in again: every browser is signed out.",
    opens_nothing: "Somebody else had a part in this password, so it opens none of your secrets yet.",
    opens_by_command: "On the server's machine, run:",
    opens_by_key: "Set one that only you know; or, if you have an API key of your own, confirm this password with it.",
    keys_by_others: "API keys that others made for you",
    made_by: "made by",
    let_it_open: "Let it open my secrets",
    my_account: "My Account",
    display_name: "Display name",
    email: "Email",
    none: "none",
    other_credentials: "Other credentials",
    other_credentials_are: "Yours alone: your code reads them, and nobody else sees them. A value is shown only when \
        you ask for it.",
    no_credentials: "There are none yet.",
    name: "Name",
    description: "Description",
    value: "Value",
    version: "Version",
    created: "Created",
    updated: "Updated",
    last_read: "Last read",
    last_read_is: "As far as your last 500 events tell.",
    expires: "Expires",
    expires_optional: "Expires (optional; the last day on which it is good)",
    expires_today: "expires today",
    expires_in: |days| if days == 1 { "expires tomorrow".into() } else { format!("expires in {days} days") },
    expired: "expired",
    never: "never",
    add: "Add",
    add_credential: "Add a credential",
    removed_ones: "Removed",
    removed: "Removed",
    removed_are: "They can be restored for some time, 30 days unless that was changed; then they are destroyed.",
    restore: "Restore",
    undo: "Undo",
    back: "Back to the list",
    show: "Show",
    hide: "Hide",
    show_is: "Showing it is written to your activity.",
    shown_for: |seconds| format!("It is hidden again after {seconds} seconds."),
    edit: "Edit",
    new_value: "New value (leave it empty to keep the present one)",
    save: "Save",
    versions: "Versions",
    current: "current",
    restore_version: |version| format!("Restore version {version}"),
    remove: "Remove",
    remove_is: "It can be restored for some time.",
    in_code: "Use it in code",
    in_code_is: "On your own machine and in jobs, DKU_DSS_URL and DKU_API_KEY say which server and which API key; R \
        needs neither on the server's own machine.",
    changed_meanwhile: "This credential was changed after you opened it, perhaps in another tab.",
    nothing_stored: "Nothing of what you sent was stored. It is now as below; your description and expiry are still \
        in the form: save again if they are to replace it.",
    you_saw: |version| format!("Its value was replaced: you saw version {version}."),
    was_removed: "It was removed.",
    no_longer_removed: "It is not removed.",
    value_as_before: "Its value is the one that you saw; description or expiry were changed.",
    done: |done| match done {
        Done::Added => "Stored.",
        Done::Saved => "Saved.",
        Done::Removed => "Removed.",
        Done::Restored => "Restored.",
        Done::KeyRevoked => "The key is revoked.",
        Done::KeyConfirmed => "The key opens your secrets now.",
    },
    api_keys: "API keys",
    api_keys_are: "By an API key your code is known as you wherever it runs: whoever has it can read your secrets.",
    no_keys: "You have none.",
    label: "Label",
    create_key: "Create an API key",
    create: "Create",
    revoke: "Revoke",
    last_used: "Last used",
    last_used_is: "Of the last hour it may not be known, if the server did not stop by itself.",
    opens: "Opens secrets",
    yes: "yes",
    not_yet: "not yet",
    new_key: "Your new API key",
    new_key_is: "It is shown this once: copy it now.",
    activity: "Activity",
    activity_is: |shown, most| {
        format!(
            "What happened to your account and your secrets, newest first: at most {shown} of your last {most} events."
        )
    },
    no_events: "There is nothing of that kind.",
    filter: "Filter",
    secret: "Credential",
    what: "What",
    since: "Since",
    script: "Script",
    all: "all",
    reads: "reads",
    changes: "changes",
    others: "signing in, keys and the rest",
    days: |days| if days == 1 { "the last day".into() } else { format!("the last {days} days") },
    when: "When (UTC)",
    by: "By",
    from: "From",
    for_whom: |who| format!("for {who}"),
    refused: |why| format!("refused: {why}"),
    actions: "Actions",
    went_wrong: "That did not work",
};

static FRENCH: Texts = Texts {
    lang: "fr",
    signed_in_as: "Vous êtes connecté en tant que",
    sign_in: "Se connecter",
    sign_out: "Se déconnecter",
    sign_out_everywhere: "Se déconnecter de tous les navigateurs",
    skip: "Aller au contenu",
    tabs: "Profil",
    login: "Identifiant",
    your_login: "Votre identifiant",
    password: "Mot de passe",
    new_password: "Nouveau mot de passe : au moins 15 caractères ; plusieurs mots valent mieux qu’un",
    again: "Le même une seconde fois",
    set_password: "Définir votre mot de passe",
    set_the_password: "Définir le mot de passe",
    code: "Le code, qui suit le # dans le lien",
    present_password: "Mot de passe actuel",
    change_password: "Changer le mot de passe",
    change_it: "Le changer",
    password_changed: "Ensuite, reconnectez-vous : tous les navigateurs sont déconnectés.",
    opens_nothing: "Quelqu’un d’autre a eu part à ce mot de passe : il n’ouvre encore aucun de vos secrets.",
    opens_by_command: "Sur la machine du serveur, exécutez :",
    opens_by_key: "Définissez-en un que vous seul connaissez ; ou, si vous avez une clé d’API à vous, confirmez ce \
        mot de passe avec elle.",
    keys_by_others: "Clés d’API que d’autres ont créées pour vous",
    made_by: "créée par",
    let_it_open: "L’autoriser à ouvrir mes secrets",
    my_account: "Mon compte",
    display_name: "Nom affiché",
    email: "Adresse électronique",
    none: "aucun",
    other_credentials: "Autres identifiants",
    other_credentials_are: "Ils sont à vous seul : votre code les lit, personne d’autre ne les voit. Une valeur n’est \
        affichée que si vous le demandez.",
    no_credentials: "Il n’y en a pas encore.",
    name: "Nom",
    description: "Description",
    value: "Valeur",
    version: "Version",
    created: "Création",
    updated: "Modification",
    last_read: "Dernière lecture",
    last_read_is: "D’après vos 500 derniers événements.",
    expires: "Expiration",
    expires_optional: "Expiration (facultative ; le dernier jour de validité)",
    expires_today: "expire aujourd’hui",
    expires_in: |days| if days == 1 { "expire demain".into() } else { format!("expire dans {days} jours") },
    expired: "expiré",
    never: "jamais",
    add: "Ajouter",
    add_credential: "Ajouter un identifiant",
    removed_ones: "Supprimés",
    removed: "Suppression",
    removed_are: "Ils peuvent être restaurés pendant un certain temps, 30 jours sauf réglage contraire ; ensuite ils \
        sont détruits.",
    restore: "Restaurer",
    undo: "Annuler",
    back: "Retour à la liste",
    show: "Afficher",
    hide: "Masquer",
    show_is: "L’affichage est inscrit dans votre activité.",
    shown_for: |seconds| format!("Elle est masquée à nouveau après {seconds} secondes."),
    edit: "Modifier",
    new_value: "Nouvelle valeur (laisser vide pour garder l’actuelle)",
    save: "Enregistrer",
    versions: "Versions",
    current: "actuelle",
    restore_version: |version| format!("Restaurer la version {version}"),
    remove: "Supprimer",
    remove_is: "Il peut être restauré pendant un certain temps.",
    in_code: "L’utiliser dans du code",
    in_code_is: "Sur votre machine et dans les traitements, DKU_DSS_URL et DKU_API_KEY disent quel serveur et quelle \
        clé d’API ; sur la machine du serveur, R n’a besoin ni de l’un ni de l’autre.",
    changed_meanwhile: "Cet identifiant a été modifié après que vous l’avez ouvert, peut-être dans un autre onglet.",
    nothing_stored: "Rien de ce que vous avez envoyé n’a été enregistré. Son état actuel est ci-dessous ; votre \
        description et votre expiration sont encore dans le formulaire : enregistrez à nouveau si elles doivent le \
        remplacer.",
    you_saw: |version| format!("Sa valeur a été remplacée : vous aviez vu la version {version}."),
    was_removed: "Il a été supprimé.",
    no_longer_removed: "Il n’est pas supprimé.",
    value_as_before: "Sa valeur est celle que vous aviez vue ; sa description ou son expiration ont été modifiées.",
    done: |done| match done {
        Done::Added => "Enregistré.",
        Done::Saved => "Modifications enregistrées.",
        Done::Removed => "Supprimé.",
        Done::Restored => "Restauré.",
        Done::KeyRevoked => "La clé est révoquée.",
        Done::KeyConfirmed => "La clé ouvre maintenant vos secrets.",
    },
    api_keys: "Clés d’API",
    api_keys_are: "Par une clé d’API, votre code est reconnu comme vous partout où il s’exécute : quiconque la \
        possède peut lire vos secrets.",
    no_keys: "Vous n’en avez pas.",
    label: "Libellé",
    create_key: "Créer une clé d’API",
    create: "Créer",
    revoke: "Révoquer",
    last_used: "Dernier usage",
    last_used_is: "Celui de la dernière heure peut manquer, si le serveur ne s’est pas arrêté de lui-même.",
    opens: "Ouvre les secrets",
    yes: "oui",
    not_yet: "pas encore",
    new_key: "Votre nouvelle clé d’API",
    new_key_is: "Elle n’est affichée que cette fois : copiez-la maintenant.",
    activity: "Activité",
    activity_is: |shown, most| {
        format!(
            "Ce qui est arrivé à votre compte et à vos secrets, du plus récent au plus ancien : {shown} au plus de \
             vos {most} derniers événements."
        )
    },
    no_events: "Il n’y a rien de tel.",
    filter: "Filtrer",
    secret: "Identifiant",
    what: "Quoi",
    since: "Depuis",
    script: "Script",
    all: "tout",
    reads: "lectures",
    changes: "modifications",
    others: "connexions, clés et le reste",
    days: |days| if days == 1 { "le dernier jour".into() } else { format!("les {days} derniers jours") },
    when: "Quand (UTC)",
    by: "Par",
    from: "Depuis l’adresse",
    for_whom: |who| format!("pour {who}"),
    refused: |why| format!("refusé : {why}"),
    actions: "Actions",
    went_wrong: "Cela n’a pas fonctionné",
};

/// What the log calls things, and what people do: in English, in French.
const ACTIONS: &[(&str, &str, &str)] = &[
    ("read", "Value read", "Valeur lue"),
    ("read all", "All values read", "Toutes les valeurs lues"),
    ("set", "Value stored", "Valeur enregistrée"),
    ("described", "Description or expiry changed", "Description ou expiration modifiée"),
    ("removed", "Removed", "Supprimé"),
    ("restored", "Restored", "Restauré"),
    ("renamed", "Renamed", "Renommé"),
    ("purged", "Destroyed what was kept for undoing", "Détruit ce qui était gardé pour annuler"),
    ("compared", "Value compared with one that was sent", "Valeur comparée à une autre, envoyée"),
    ("saved", "Settings saved", "Réglages enregistrés"),
    ("ticket", "Ticket issued", "Ticket émis"),
    ("ticket revoked", "Ticket revoked", "Ticket révoqué"),
    (
        "ticket by headers",
        "Ticket issued to an application that you looked at",
        "Ticket émis à une application que vous regardiez",
    ),
    ("asked by headers", "An application asked who looks at it", "Une application a demandé qui la regarde"),
    ("run begun", "Run begun", "Exécution commencée"),
    ("sign-in", "Sign-in", "Connexion"),
    ("sign-out", "Sign-out", "Déconnexion"),
    ("sign-out everywhere", "Sign-out of every browser", "Déconnexion de tous les navigateurs"),
    ("password changed", "Password changed", "Mot de passe changé"),
    ("password set by a link", "Password set by a link", "Mot de passe défini par un lien"),
    ("password confirmed", "Password confirmed", "Mot de passe confirmé"),
    ("key made", "API key created", "Clé d’API créée"),
    ("key described", "API key described", "Clé d’API décrite"),
    ("key confirmed", "API key confirmed", "Clé d’API confirmée"),
    ("key revoked", "API key revoked", "Clé d’API révoquée"),
    ("key changed", "API key changed", "Clé d’API modifiée"),
    ("store made", "Store made", "Dépôt créé"),
    ("user added", "Account made", "Compte créé"),
    ("user appeared", "Account made by itself, over the socket", "Compte créé de lui-même, par le socket"),
    ("user changed", "Account changed", "Compte modifié"),
    ("user linked", "Account linked to a user id", "Compte lié à un identifiant d’utilisateur"),
    ("link made", "Link for a password made", "Lien pour un mot de passe créé"),
    ("restore accepted", "An older copy of the store accepted", "Copie antérieure du dépôt acceptée"),
    ("asking for viewers allowed", "An application allowed to ask", "Application autorisée à demander"),
    (
        "asking for viewers forbidden",
        "An application no longer allowed to ask",
        "Application plus autorisée à demander",
    ),
    ("form", "A form that none of our pages sent", "Un formulaire qu’aucune de nos pages n’a envoyé"),
];

impl Texts {
    /// Those in the language that a browser prefers (RFC 9110, 12.5.4); English if it says nothing.
    pub fn of(headers: &HeaderMap) -> &'static Texts {
        let said = headers.get(header::ACCEPT_LANGUAGE).and_then(|said| said.to_str().ok()).unwrap_or_default();
        let wants = |lang: &str| {
            let ranges = said.split(',').filter_map(|range| {
                let mut parts = range.trim().split(';');
                let tag = parts.next()?.trim();
                let primary = tag.split('-').next()?;
                let weight = parts.find_map(|part| part.trim().strip_prefix("q=")?.trim().parse::<f32>().ok());
                primary.eq_ignore_ascii_case(lang).then(|| weight.unwrap_or(1.0))
            });
            ranges.fold(0.0, f32::max)
        };
        if wants("fr") > wants("en") { &FRENCH } else { &ENGLISH }
    }

    fn is_french(&self) -> bool {
        self.lang == FRENCH.lang
    }

    /// What the log calls so.
    pub fn action<'a>(&self, action: &'a str) -> &'a str {
        match ACTIONS.iter().find(|(name, ..)| *name == action) {
            Some((_, _, french)) if self.is_french() => french,
            Some((_, english, _)) => english,
            None => action,
        }
    }

    /// What went wrong. Problems tell it in English; in French it is told by their kinds.
    pub fn problem<'p>(&self, problem: &'p Problem, wanted: Wanted) -> Cow<'p, str> {
        if !self.is_french() {
            return problem.message.as_str().into();
        }
        let told = match (problem.kind, wanted) {
            ("not_authenticated", Wanted::SignIn) => "L’identifiant ou le mot de passe est incorrect.",
            ("not_authenticated", Wanted::Link) => {
                "Ce lien a expiré, a déjà servi, ou est pour un autre identifiant ; qui gère le serveur peut en faire \
                 un autre."
            }
            ("not_authenticated", _) => "Cette session est terminée : connectez-vous à nouveau.",
            ("not_allowed", Wanted::Password) => "Le mot de passe actuel est incorrect.",
            ("not_allowed", _) => {
                "Cela n’est pas permis ici, ou le formulaire vient d’une autre page : rouvrez la page."
            }
            ("invalid_argument", Wanted::Password | Wanted::Link) => {
                "Le nouveau mot de passe doit avoir au moins 15 caractères et 1024 octets au plus, deux fois le même."
            }
            ("invalid_name", _) => "Un nom a de 1 à 255 caractères, sans saut de ligne ni caractère de contrôle.",
            ("invalid_value", _) => "Une valeur est du texte de 1 Mio au plus, sans caractère NUL.",
            ("invalid_argument", _) => {
                "Un champ n’est pas valide : une date s’écrit 2031-12-31, une description a 1000 caractères au plus."
            }
            ("conflict" | "exists", _) => "Ce nom est déjà pris, ou l’identifiant a été modifié entre-temps.",
            ("not_found", _) => "Cela n’existe pas ou plus.",
            ("too_many", _) => "C’est plus que ce qu’une personne peut garder ici.",
            ("unavailable" | "busy", _) => "Le serveur ne peut pas le faire pour l’instant : réessayez plus tard.",
            ("no_space", _) => "Il n’y a plus de place sur le disque du serveur.",
            _ => return format!("Erreur : {}", problem.message).into(),
        };
        told.into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::http::HeaderValue;

    fn lang(said: &str) -> &'static str {
        let said = HeaderValue::from_str(said).unwrap();
        Texts::of(&HeaderMap::from_iter([(header::ACCEPT_LANGUAGE, said)])).lang
    }

    #[test]
    fn the_language_that_is_preferred() {
        for said in ["fr", "fr-CA", "FR-fr,en;q=0.8", "de, fr;q=0.5, en;q=0.3", "en;q=0.2, fr"] {
            assert_eq!(lang(said), "fr", "{said}");
        }
        for said in ["", "en", "en-GB,fr;q=0.9", "de", "*", "fr;q=0", "fr;q=x;", "frx", "en,fr"] {
            let expected = if said == "fr;q=x;" { "fr" } else { "en" };
            assert_eq!(lang(said), expected, "{said}");
        }
        assert_eq!(Texts::of(&HeaderMap::new()).lang, "en");
    }

    #[test]
    fn what_the_log_tells_is_told_in_both() {
        assert_eq!((ENGLISH.action("read"), FRENCH.action("read")), ("Value read", "Valeur lue"));
        assert_eq!(FRENCH.action("something new"), "something new");
        for done in Done::ALL {
            assert_eq!(Done::of(done.code()), Some(done));
            assert_ne!((ENGLISH.done)(done), (FRENCH.done)(done));
        }
        assert_eq!(Done::of("other"), None);
    }
}
